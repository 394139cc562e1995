"""One compiled call: U critic steps on U minibatches, then one actor step on the last of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

from learner.actors import actor_loss, temperature_loss
from learner.batch import Batch, Resident, Rows, gather, unpack
from learner.config import LearnerConfig
from learner.critics import Chance, critic_loss, draw_chance, td_target
from learner.governor import allowed
from learner.networks import Params, init_ensemble, init_mlp
from learner.normaliser import Normaliser, normalise
from learner.operator import Operator

LAST_PACE = 0.1  # [-], of a run's last step
FIRST_SCORE = -3.0  # [-], log odds: new heads promise a twentieth of the range, not half of it
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


class Fixed(NamedTuple):
    """What an update reads and doesn't change."""

    key: jax.Array  # the run's key
    normaliser: Normaliser
    gain: ArrayLike  # g of acting and of the target
    train_gain: ArrayLike  # g that the actor's loss assumes


class Outcome(NamedTuple):
    """What critic steps came to; with a leading axis for several."""

    loss: jax.Array  # ()
    values: jax.Array  # (E, B), before the step
    target: jax.Array  # (B,)
    clipped: jax.Array  # (), share of the targets


Update = Callable[[LearnerState, Rows | Resident, Fixed], tuple[LearnerState, jax.Array]]


@partial(jax.jit, static_argnums=(0, 1, 2))
def init_state(operator: Operator, state: int, action: int, key: jax.Array) -> LearnerState:
    """Return the state before the first update.

    An actor that edits a base starts with its last layer, kernel and bias, at exactly zero: its
    first action is the base's. Heads whose values lie in a range start near its lower end.
    """
    config = operator.config
    critic_key, actor_key = jax.random.split(key)
    residual = config.edit_from == "base"
    critic = init_ensemble(critic_key, config.ensemble, state + action, config.hidden)
    if operator.value_range is not None:
        critic["b_out"] += FIRST_SCORE
    actor = init_mlp(
        actor_key,
        state + (action + 1 if residual else 0),
        config.hidden,
        2 * action if config.actor == "sac" else action,
        last_gain=0.0 if residual else 0.01,
    )
    log_alpha = jnp.log(jnp.asarray(config.temperature, jnp.float32))
    critic_opt, actor_opt, alpha_opt = _optimizers(operator)
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


def make_update(
    operator: Operator,
    state: int,
    action: int,
    with_actor: bool,
    everywhere: NamedSharding | None = None,
) -> Update:
    """Return the update: (state, U packed minibatches, fixed) -> (state, METRICS as one vector).

    Args:
        operator: The operator's constants.
        state: S.
        action: A.
        with_actor: False leaves actor, temperature and their optimisers untouched.
        everywhere: Where the state lies if that is several devices, see `learner.devices`.
    """

    def update(
        learner: LearnerState, packed: Rows | Resident, fixed: Fixed
    ) -> tuple[LearnerState, jax.Array]:
        batches = batch_of(fixed, gather(packed), state, action)
        steps = learner.step + jnp.arange(len(batches.reward))
        chances = jax.vmap(partial(draw, operator, fixed, shape=batches.action.shape[1:]))(steps)
        step = partial(critic_step, operator, fixed)
        learner, outcomes = jax.lax.scan(step, learner, (batches, chances))
        values = critic_metrics(outcomes, batches.anchor)
        if with_actor:
            last = jax.tree.map(lambda leaf: leaf[-1], batches)
            learner, more = actor_step(operator, fixed, learner, last)
            values |= more
        nan = jnp.full((), jnp.nan, jnp.float32)
        return learner, jnp.stack([values.get(name, nan) for name in METRICS])

    return jax.jit(update, donate_argnums=0, out_shardings=everywhere)


def batch_of(fixed: Fixed, rows: Rows, state: int, action: int) -> Batch:
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
    operator: Operator,
    fixed: Fixed,
    learner: LearnerState,
    batch: Batch,
    chance: Chance | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return `critics.td_target` of a batch (B,) under the learner's present weights."""
    temperature = jnp.exp(learner.log_alpha)
    return td_target(
        operator, learner.actor, learner.target_critic, batch, temperature, fixed.gain, chance
    )


def draw(operator: Operator, fixed: Fixed, step: jax.Array, shape: tuple[int, ...]) -> Chance:
    """Return what a critic step draws, which depends on the run's key and the step's number alone.

    The steps of a compiled call draw together: on a CPU random bits are a loop of many small
    kernels, whatever their number.
    """
    key = jax.random.fold_in(jax.random.fold_in(fixed.key, 1), step)
    return draw_chance(operator, key, shape)


def critic_step(
    operator: Operator, fixed: Fixed, learner: LearnerState, given: tuple[Batch, Chance]
) -> tuple[LearnerState, Outcome]:
    """Take one gradient step of all heads, then move the slow weights."""
    config = operator.config
    batch, chance = given
    target, clipped = target_of(operator, fixed, learner, batch, chance)
    loss_fn = partial(critic_loss, operator)
    (loss, values), grads = jax.value_and_grad(loss_fn, has_aux=True)(learner.critic, batch, target)
    optimizer, _, _ = _optimizers(operator)
    changes, critic_opt = optimizer.update(grads, learner.critic_opt, learner.critic)
    critic = _apply(learner.critic, changes, pace(config, learner.step))
    learner = learner._replace(
        step=learner.step + 1,
        critic=critic,
        critic_opt=critic_opt,
        target_critic=optax.incremental_update(critic, learner.target_critic, config.target_rate),
    )
    return learner, Outcome(loss, values, target, clipped)


def critic_metrics(outcomes: Outcome, anchor: jax.Array) -> dict[str, jax.Array]:
    """Return the scalars of U critic steps, each the mean over the steps.

    Args:
        outcomes: Of the steps, with a leading axis.
        anchor: (U, B), of the minibatches.
    """
    error = jnp.abs(outcomes.values.mean(1) - outcomes.target)
    anchors = anchor.sum(-1)
    rest = anchor.shape[-1] - anchors
    each = {
        "q": outcomes.values,
        "q_std": outcomes.values.std(1),
        "critic_loss": outcomes.loss,
        "target": outcomes.target,
        "target_clipped": outcomes.clipped,
        "td_demo": (error * anchor).sum(-1) / jnp.maximum(anchors, 1.0),
        "td_online": (error * (1.0 - anchor)).sum(-1) / jnp.maximum(rest, 1.0),
    }
    return {name: value.mean() for name, value in each.items()}


def actor_step(
    operator: Operator, fixed: Fixed, learner: LearnerState, batch: Batch
) -> tuple[LearnerState, dict[str, jax.Array]]:
    """Take one gradient step of the actor, and of the temperature if it has one."""
    config = operator.config
    key = jax.random.fold_in(jax.random.fold_in(fixed.key, 2), learner.step)
    temperature = jnp.exp(learner.log_alpha)

    def loss_fn(actor: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return actor_loss(
            operator, actor, learner.critic, batch, temperature, fixed.train_gain, key
        )

    (loss, (entropy, edit)), grads = jax.value_and_grad(loss_fn, has_aux=True)(learner.actor)
    _, optimizer, alpha_optimizer = _optimizers(operator)
    changes, actor_opt = optimizer.update(grads, learner.actor_opt, learner.actor)
    actor = _apply(learner.actor, changes, pace(config, learner.step))
    metrics = {
        "actor_loss": loss,
        "entropy": entropy,
        "temperature": temperature,
        "edit": edit,
    }
    learner = learner._replace(
        actor=actor,
        actor_opt=actor_opt,
        ema_actor=optax.incremental_update(actor, learner.ema_actor, config.ema_rate),
    )
    if config.actor == "sac":
        slope = jax.grad(lambda x: temperature_loss(operator, x, entropy))(learner.log_alpha)
        change, alpha_opt = alpha_optimizer.update(slope, learner.alpha_opt, learner.log_alpha)
        floor = jnp.log(jnp.asarray(config.temperature_floor, jnp.float32))
        log_alpha = jnp.maximum(_apply(learner.log_alpha, change), floor)
        learner = learner._replace(log_alpha=log_alpha, alpha_opt=alpha_opt)
    return learner, metrics


def _optimizers(
    operator: Operator,
) -> tuple[
    optax.GradientTransformation, optax.GradientTransformation, optax.GradientTransformation
]:
    config = operator.config

    def network(rate: float) -> optax.GradientTransformation:
        return optax.chain(
            clip_by_global_norm(config.grad_clip),
            optax.adamw(rate, weight_decay=config.weight_decay),
        )

    return (
        network(config.critic_rate),
        network(config.actor_rate),
        optax.adam(config.temperature_rate),
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


def pace(config: LearnerConfig, step: jax.Array) -> ArrayLike:
    """Return the share of their full length that the steps of critics and actor have now.

    Args:
        config: The last `anneal` of its budget's updates bring it down to `LAST_PACE`.
        step: Critic steps so far, scalar.
    """
    if config.anneal == 0:
        return 1.0
    total = allowed(config, config.total_steps)
    done = (step / total - (1.0 - config.anneal)) / config.anneal
    return 1.0 - (1.0 - LAST_PACE) * jnp.clip(done, 0.0, 1.0)


def _apply(params: Any, changes: Any, share: ArrayLike = 1.0) -> Any:
    return jax.tree.map(lambda old, change: old + share * change, params, changes)
