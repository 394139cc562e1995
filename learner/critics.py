"""The critics' target and loss."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from learner.batch import Batch
from learner.networks import Params, take_heads
from learner.operator import Operator


class Chance(NamedTuple):
    """What a target draws."""

    noise: jax.Array  # (B, A), of the next actions
    heads: jax.Array  # (m,) int32, without replacement
    spread: jax.Array  # (N, B, A), of the samples around the base's


def draw_chance(operator: Operator, key: jax.Array, shape: tuple[int, ...]) -> Chance:
    """Return what the target of a minibatch draws.

    Args:
        operator: The operator's constants.
        key: Random key.
        shape: (B, A), of the minibatch's actions.
    """
    config = operator.config
    noise_key, heads_key = jax.random.split(key)
    heads = jax.random.permutation(heads_key, config.ensemble)[: config.subset]
    noise = operator.noise(noise_key, shape, "target")
    return Chance(noise, heads, operator.spread(noise_key, shape))


def td_target(
    operator: Operator,
    actor: Params,
    target_critic: Params,
    batch: Batch,
    temperature: jax.Array,
    gain: ArrayLike,
    chance: Chance | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the n-step target and the share of targets that the value range clipped.

        y = R + d (min over the drawn heads of Q'(s', a') - [backup entropy] alpha log pi(a'))

    with a' from the same operator that acts. The heads are drawn without replacement, and only
    those are evaluated.

    Args:
        operator: The operator's constants.
        actor: Weights of the actor.
        target_critic: Slow weights of all heads.
        batch: B normalised rows.
        temperature: alpha, scalar.
        gain: g, scalar.
        chance: From `draw_chance`, or a random key to draw it from.

    Returns:
        y, shape (B,), without gradient; clipped share, scalar.

    Source:
        X. Chen et al., "Randomized Ensembled Double Q-Learning", 2021.
    """
    config = operator.config
    if not isinstance(chance, Chance):
        chance = draw_chance(operator, chance, batch.action.shape)
    drawn_all = config.subset == config.ensemble  # in whatever order
    heads = target_critic if drawn_all else take_heads(target_critic, chance.heads)
    judges = heads if config.select == "best" else None
    there = (batch.next_state, batch.next_context)
    acted = operator.act(actor, judges, *there, chance.noise, gain, chance.spread)
    values = acted.value
    if values is None:
        values = operator.value(heads, batch.next_state, acted.action)
    value = values.min(0)
    if config.backup_entropy:
        value = value - temperature * acted.log_prob
    target = batch.reward + batch.discount * value
    clipped = jnp.zeros((), jnp.float32)
    if config.v_range is not None:
        low, high = config.v_range
        clipped = ((target < low) | (target > high)).mean(dtype=jnp.float32)
        target = jnp.clip(target, low, high)
    return jax.lax.stop_gradient(target), clipped


def critic_loss(
    operator: Operator, critic: Params, batch: Batch, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return each head's own loss, averaged, and the values (E, B).

    It is of each head's error, never of their mean's, which would couple the heads: the square; or,
    of values within a range, the cross-entropy of the target's share p of it,

        -p log q - (1 - p) log(1 - q),   q the sigmoid of the head's score

    whose gradient is q - p whatever q is. Squares hardly notice that a chance of success of .02 is
    taken for one of .06, and where success is rare all there is to climb is in such differences.

    Source:
        D. Kalashnikov et al., "QT-Opt", 2018: values of a reward of 0 or 1 as a sigmoid's.
        J. Farebrother et al., "Stop Regressing", 2024: why such losses train better.
    """
    scores = operator.score(critic, batch.state, batch.action)
    values = operator.value_of(scores)
    if operator.value_range is None:
        return jnp.square(values - target).mean(), values
    low, high = operator.value_range
    share = (target - low) / (high - low)
    return (jax.nn.softplus(scores) - share * scores).mean(), values
