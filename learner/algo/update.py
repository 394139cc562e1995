"""One compiled call: U critic steps on U minibatches, then one actor step on the last of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

from learner.algo.action import ActionComposer
from learner.algo.actor import actor_loss, temperature_loss
from learner.algo.batch import Batch, Resident, Rows, gather, unpack
from learner.algo.critic import TargetSamples, critic_loss, sample_target, td_target
from learner.algo.networks import init_networks
from learner.algo.utd_governor import allowed
from learner.config import LearnerConfig
from learner.nets.mlp import Params
from learner.nets.normaliser import Normaliser, normalise

FINAL_LR_FRACTION = 0.1  # [-], of a run's last step
METRICS = (
    "q",
    "q_std",
    "critic_loss",
    "target",
    "target_clipped",
    "td_demo",
    "td_online",
    "actor_loss",
    "entropy",
    "temperature",
    "edit",
)


class LearnerState(NamedTuple):
    """Everything that training changes."""

    step: jax.Array  # int32, critic steps so far; every random key is folded from it
    critic: Params
    target_critic: Params
    critic_opt: Any
    actor: Params
    ema_actor: Params
    actor_opt: Any
    log_alpha: jax.Array  # float32
    alpha_opt: Any


class UpdateContext(NamedTuple):
    """What an update reads and doesn't change."""

    key: jax.Array  # the run's key
    normaliser: Normaliser
    gain: ArrayLike  # g of acting and of the target
    train_gain: ArrayLike  # g that the actor's loss assumes


class CriticInfo(NamedTuple):
    """What critic steps came to; with a leading axis for several."""

    loss: jax.Array  # ()
    values: jax.Array  # (E, B), before the step
    target: jax.Array  # (B,)
    clipped: jax.Array  # (), share of the targets


Update = Callable[[LearnerState, Rows | Resident, UpdateContext], tuple[LearnerState, jax.Array]]


@partial(jax.jit, static_argnums=(0, 1, 2))
def init_state(composer: ActionComposer, state: int, action: int, key: jax.Array) -> LearnerState:
    """Return the state before the first update."""
    config = composer.config
    critic, actor = init_networks(composer, state, action, key)
    log_alpha = jnp.log(jnp.asarray(config.temperature, jnp.float32))
    critic_opt, actor_opt, alpha_opt = _optimizers(composer)
    return LearnerState(
        step=jnp.zeros((), jnp.int32),
        critic=critic,
        target_critic=jax.tree.map(jnp.copy, critic),
        critic_opt=critic_opt.init(critic),
        actor=actor,
        ema_actor=jax.tree.map(jnp.copy, actor),
        actor_opt=actor_opt.init(actor),
        log_alpha=log_alpha,
        alpha_opt=alpha_opt.init(log_alpha),
    )


@lru_cache(maxsize=16)  # of one process: learners of one config share the compiled code
def make_update(
    composer: ActionComposer,
    state: int,
    action: int,
    with_actor: bool,
    replicated: NamedSharding | None = None,
) -> Update:
    """Return the update: (state, U packed minibatches, fixed) -> (state, METRICS as one vector).

    Args:
        composer: The composer's constants.
        state: S.
        action: A.
        with_actor: False leaves actor, temperature and their optimisers untouched.
        replicated: Where the state lies if that is several devices, see `learner.devices`.
    """

    def update(
        learner: LearnerState, packed: Rows | Resident, fixed: UpdateContext
    ) -> tuple[LearnerState, jax.Array]:
        batches = batch_of(fixed, gather(packed), state, action)
        steps = learner.step + jnp.arange(len(batches.reward))
        target_samples = jax.vmap(partial(draw, composer, fixed, shape=batches.action.shape[1:]))(
            steps
        )
        step = partial(critic_step, composer, fixed)
        learner, outcomes = jax.lax.scan(step, learner, (batches, target_samples))
        values = critic_metrics(outcomes, batches.is_prior)
        if with_actor:
            last = jax.tree.map(lambda leaf: leaf[-1], batches)
            learner, more = actor_step(composer, fixed, learner, last)
            values |= more
        nan = jnp.full((), jnp.nan, jnp.float32)
        return learner, jnp.stack([values.get(name, nan) for name in METRICS])

    return jax.jit(update, donate_argnums=0, out_shardings=replicated)


def batch_of(fixed: UpdateContext, rows: Rows, state: int, action: int) -> Batch:
    """Return packed rows as a batch whose states are normalised.

    Args:
        fixed: Has the normaliser.
        rows: Packed, with any leading axes.
        state: S.
        action: A.
    """
    now, nxt, extra = map(jnp.asarray, rows)
    batch = unpack(now, nxt, extra, state, action)
    return batch._replace(
        state=normalise(fixed.normaliser, batch.state),
        next_state=normalise(fixed.normaliser, batch.next_state),
    )


def target_of(
    composer: ActionComposer,
    fixed: UpdateContext,
    learner: LearnerState,
    batch: Batch,
    target_samples: TargetSamples | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return `critics.td_target` of a batch (B,) under the learner's present weights."""
    temperature = jnp.exp(learner.log_alpha)
    return td_target(
        composer,
        learner.actor,
        learner.target_critic,
        batch,
        temperature,
        fixed.gain,
        target_samples,
    )


def draw(
    composer: ActionComposer, fixed: UpdateContext, step: jax.Array, shape: tuple[int, ...]
) -> TargetSamples:
    """Return what a critic step draws, which depends on the run's key and the step's number alone.

    The steps of a compiled call draw together: on a CPU random bits are a loop of many small
    kernels, whatever their number.
    """
    key = jax.random.fold_in(jax.random.fold_in(fixed.key, 1), step)
    return sample_target(composer, key, shape)


def critic_step(
    composer: ActionComposer,
    fixed: UpdateContext,
    learner: LearnerState,
    given: tuple[Batch, TargetSamples],
) -> tuple[LearnerState, CriticInfo]:
    """Take one gradient step of all heads, then move the slow weights."""
    config = composer.config
    batch, target_samples = given
    target, clipped = target_of(composer, fixed, learner, batch, target_samples)
    loss_fn = partial(critic_loss, composer)
    (loss, values), grads = jax.value_and_grad(loss_fn, has_aux=True)(learner.critic, batch, target)
    optimizer, _, _ = _optimizers(composer)
    changes, critic_opt = optimizer.update(grads, learner.critic_opt, learner.critic)
    critic = _apply(learner.critic, changes, lr_schedule(config, learner.step))
    learner = learner._replace(
        step=learner.step + 1,
        critic=critic,
        critic_opt=critic_opt,
        target_critic=optax.incremental_update(critic, learner.target_critic, config.tau),
    )
    return learner, CriticInfo(loss, values, target, clipped)


def critic_metrics(outcomes: CriticInfo, is_prior: jax.Array) -> dict[str, jax.Array]:
    """Return the scalars of U critic steps, each the mean over the steps.

    Args:
        outcomes: Of the steps, with a leading axis.
        is_prior: (U, B), of the minibatches.
    """
    error = jnp.abs(outcomes.values.mean(1) - outcomes.target)
    num_prior = is_prior.sum(-1)
    rest = is_prior.shape[-1] - num_prior
    each = {
        "q": outcomes.values,
        "q_std": outcomes.values.std(1),
        "critic_loss": outcomes.loss,
        "target": outcomes.target,
        "target_clipped": outcomes.clipped,
        "td_demo": (error * is_prior).sum(-1) / jnp.maximum(num_prior, 1.0),
        "td_online": (error * (1.0 - is_prior)).sum(-1) / jnp.maximum(rest, 1.0),
    }
    return {name: value.mean() for name, value in each.items()}


def actor_step(
    composer: ActionComposer, fixed: UpdateContext, learner: LearnerState, batch: Batch
) -> tuple[LearnerState, dict[str, jax.Array]]:
    """Take one gradient step of the actor, and of the temperature if it has one."""
    config = composer.config
    key = jax.random.fold_in(jax.random.fold_in(fixed.key, 2), learner.step)
    temperature = jnp.exp(learner.log_alpha)

    def loss_fn(actor: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return actor_loss(
            composer, actor, learner.critic, batch, temperature, fixed.train_gain, key
        )

    (loss, (entropy, edit)), grads = jax.value_and_grad(loss_fn, has_aux=True)(learner.actor)
    _, optimizer, alpha_optimizer = _optimizers(composer)
    changes, actor_opt = optimizer.update(grads, learner.actor_opt, learner.actor)
    actor = _apply(learner.actor, changes, lr_schedule(config, learner.step))
    metrics = {
        "actor_loss": loss,
        "entropy": entropy,
        "temperature": temperature,
        "edit": edit,
    }
    learner = learner._replace(
        actor=actor,
        actor_opt=actor_opt,
        ema_actor=optax.incremental_update(actor, learner.ema_actor, config.actor_ema),
    )
    if config.actor == "sac":
        slope = jax.grad(lambda x: temperature_loss(composer, x, entropy))(learner.log_alpha)
        change, alpha_opt = alpha_optimizer.update(slope, learner.alpha_opt, learner.log_alpha)
        floor = jnp.log(jnp.asarray(config.temperature_floor, jnp.float32))
        log_alpha = jnp.maximum(_apply(learner.log_alpha, change), floor)
        learner = learner._replace(log_alpha=log_alpha, alpha_opt=alpha_opt)
    return learner, metrics


def _optimizers(
    composer: ActionComposer,
) -> tuple[
    optax.GradientTransformation, optax.GradientTransformation, optax.GradientTransformation
]:
    config = composer.config

    def network(rate: float) -> optax.GradientTransformation:
        return optax.chain(
            clip_by_global_norm(config.grad_clip),
            optax.adamw(rate, weight_decay=config.weight_decay),
        )

    return (
        network(config.critic_lr),
        network(config.actor_lr),
        optax.adam(config.temperature_lr),
    )


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Return optax's clipping as one factor, which XLA makes part of the moments' kernels.

    Its own selects between two arrays for each leaf, one of them made by a division, which XLA
    writes out first.
    """

    def clip(grads: Any, _: Any) -> Any:
        square = sum(jnp.square(grad).sum() for grad in jax.tree.leaves(grads))
        factor = jnp.minimum(1.0, limit / jnp.sqrt(square))
        return jax.tree.map(lambda grad: grad * factor, grads)

    return optax.stateless(clip)


def lr_schedule(config: LearnerConfig, step: jax.Array) -> ArrayLike:
    """Return the share of their full length that the steps of critics and actor have now.

    `optax.linear_schedule` is the same line but rounds otherwise: a sixth to a half of a run's
    steps would differ from those of earlier runs in the last bits.

    Args:
        config: The last `lr_decay_fraction` of its budget's updates bring it down to
            `FINAL_LR_FRACTION`.
        step: Critic steps so far, scalar.
    """
    if config.lr_decay_fraction == 0:
        return 1.0
    total = allowed(config, config.total_steps)
    done = (step / total - (1.0 - config.lr_decay_fraction)) / config.lr_decay_fraction
    return 1.0 - (1.0 - FINAL_LR_FRACTION) * jnp.clip(done, 0.0, 1.0)


def _apply(params: Any, changes: Any, share: ArrayLike = 1.0) -> Any:
    return jax.tree.map(lambda old, change: old + share * change, params, changes)
