"""A learner's loop as the field's open implementations write it, to measure ours against.

What makes it fair: the networks, their initial weights, the optimisers, the batch, the updates per
environment step, the discount and the target are those of the learner that it is compared with, and
each piece is compiled. What makes it a reference is how the pieces are put together:

- replay keeps the next observation beside each one and is sampled on the host by fancy indices,
  half of a batch from demonstrations, the halves concatenated;
- one compiled call for each critic update, in a Python loop over the minibatches of a super-batch;
- every head of the target is evaluated, then some are drawn;
- actor and temperature take their step on the whole super-batch.

Source:
    J. Luo et al., "SERL", 2024, and P. Ball et al., "RLPD", 2023: what their published learners do,
    in our words and on our networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learner.config import LearnerConfig
from learner.nets.mlp import Params, mlp

Rows = dict[str, np.ndarray]


class Agent(NamedTuple):
    """Everything that training changes."""

    key: jax.Array
    critic: Params
    target_critic: Params
    critic_opt: Any
    actor: Params
    actor_opt: Any
    log_alpha: jax.Array
    alpha_opt: Any


class Reference:
    """The loop; `run` is what is timed."""

    def __init__(
        self, config: LearnerConfig, critic: Params, actor: Params, online: Rows, demos: Rows
    ) -> None:
        """Begin from the same weights as ours, over rows as replay keeps them."""
        self.config, self._online, self._demos = config, online, demos
        self._rng = np.random.default_rng(0)

        def network(rate: float) -> optax.GradientTransformation:
            return optax.chain(
                optax.clip_by_global_norm(config.grad_clip),
                optax.adamw(rate, weight_decay=config.weight_decay),
            )

        optimizers = (
            network(config.critic_lr),
            network(config.actor_lr),
            optax.adam(config.temperature_lr),
        )
        log_alpha = jnp.log(jnp.asarray(config.temperature, jnp.float32))
        self.agent = Agent(
            jax.random.PRNGKey(0),
            critic,
            critic,
            optimizers[0].init(critic),
            actor,
            optimizers[1].init(actor),
            log_alpha,
            optimizers[2].init(log_alpha),
        )
        self.update_critic: Callable[..., Agent] = jax.jit(
            partial(_update_critic, config, optimizers)
        )
        self.update_actor: Callable[..., Agent] = jax.jit(
            partial(_update_actor, config, optimizers)
        )

    def run(self, calls: int) -> None:
        """Do the updates of so many environment steps and wait for the last one."""
        ratio, size = self.config.actor_every, self.config.batch
        for _ in range(calls):
            batch = self._sample(size * ratio)
            for n in range(ratio):
                part = {name: column[n * size : (n + 1) * size] for name, column in batch.items()}
                self.agent = self.update_critic(self.agent, part)
            self.agent = self.update_actor(self.agent, batch)
        jax.block_until_ready(self.agent)

    def _sample(self, count: int) -> Rows:
        parts = []
        for rows in (self._demos, self._online):
            index = self._rng.integers(len(rows["reward"]), size=count // 2)
            parts.append({name: column[index] for name, column in rows.items()})
        mixed = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = self._rng.permutation(count)  # or the first minibatches would be demonstrations
        return {name: column[order] for name, column in mixed.items()}


def _update_critic(config: LearnerConfig, optimizers: Any, agent: Agent, batch: Any) -> Agent:
    key, act_key, draw_key = jax.random.split(agent.key, 3)
    action, log_prob = _act(config, agent.actor, batch["next_state"], act_key)
    values = _values(config, agent.target_critic, batch["next_state"], action)
    drawn = jax.random.permutation(draw_key, config.num_qs)[: config.num_min_qs]
    value = values[drawn].min(0)
    if config.backup_entropy:
        value = value - jnp.exp(agent.log_alpha) * log_prob
    target = batch["reward"] + config.discount * batch["mask"] * value

    def loss(critic: Params) -> jax.Array:
        return jnp.square(_values(config, critic, batch["state"], batch["action"]) - target).mean()

    changes, critic_opt = optimizers[0].update(
        jax.grad(loss)(agent.critic), agent.critic_opt, agent.critic
    )
    critic: Any = optax.apply_updates(agent.critic, changes)
    slow: Any = optax.incremental_update(critic, agent.target_critic, config.tau)
    return agent._replace(key=key, critic=critic, critic_opt=critic_opt, target_critic=slow)


def _update_actor(config: LearnerConfig, optimizers: Any, agent: Agent, batch: Any) -> Agent:
    key, act_key = jax.random.split(agent.key)

    def loss(actor: Params) -> tuple[jax.Array, jax.Array]:
        action, log_prob = _act(config, actor, batch["state"], act_key)
        value = _values(config, agent.critic, batch["state"], action).mean(0)
        return (jnp.exp(agent.log_alpha) * log_prob - value).mean(), -log_prob.mean()

    grads, entropy = jax.grad(loss, has_aux=True)(agent.actor)
    changes, actor_opt = optimizers[1].update(grads, agent.actor_opt, agent.actor)
    actor: Any = optax.apply_updates(agent.actor, changes)
    goal = config.entropy_per_dim * batch["action"].shape[-1]
    slope = jax.grad(lambda x: jnp.exp(x) * (entropy - goal))(agent.log_alpha)
    change, alpha_opt = optimizers[2].update(slope, agent.alpha_opt, agent.log_alpha)
    return agent._replace(
        key=key,
        actor=actor,
        actor_opt=actor_opt,
        log_alpha=agent.log_alpha + change,
        alpha_opt=alpha_opt,
    )


def _act(
    config: LearnerConfig, actor: Params, state: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    mean, log_std = jnp.split(mlp(actor, state, config.activation), 2, -1)
    log_std = jnp.clip(log_std + config.initial_log_std, -5.0, 2.0)
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    each = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    each -= 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
    return jnp.tanh(raw), each.sum(-1)


def _values(
    config: LearnerConfig, critic: Params, state: jax.Array, action: jax.Array
) -> jax.Array:
    inputs = jnp.concatenate([state, action], -1)
    return jax.vmap(lambda head: mlp(head, inputs, config.activation)[..., 0])(critic)
