"""The critics' target and loss."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from learner.algo.action import ActionComposer
from learner.algo.batch import Batch
from learner.nets.mlp import Params, take_heads


class TargetSamples(NamedTuple):
    """What a target draws."""

    noise: jax.Array  # (B, A), of the next actions
    heads: jax.Array  # (m,) int32, without replacement
    candidate_noise: jax.Array  # (N, B, A), of the samples around the base's


def sample_target(
    composer: ActionComposer, key: jax.Array, shape: tuple[int, ...]
) -> TargetSamples:
    """Return what the target of a minibatch draws.

    Args:
        composer: The composer's constants.
        key: Random key.
        shape: (B, A), of the minibatch's actions.
    """
    config = composer.config
    noise_key, heads_key = jax.random.split(key)
    heads = jax.random.permutation(heads_key, config.num_qs)[: config.num_min_qs]
    noise = composer.noise(noise_key, shape, "target")
    return TargetSamples(noise, heads, composer.candidate_noise(noise_key, shape))


def td_target(
    composer: ActionComposer,
    actor: Params,
    target_critic: Params,
    batch: Batch,
    temperature: jax.Array,
    gain: ArrayLike,
    target_samples: TargetSamples | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the n-step target and the share of targets that the value range clipped.

        y = R + d (min over the drawn heads of Q'(s', a') - [backup entropy] alpha log pi(a'))

    with a' from the same composer that acts. The heads are drawn without replacement, and only
    those are evaluated.

    Args:
        composer: The composer's constants.
        actor: Weights of the actor.
        target_critic: Slow weights of all heads.
        batch: B normalised rows.
        temperature: alpha, scalar.
        gain: g, scalar.
        target_samples: From `draw_chance`, or a random key to draw it from.

    Returns:
        y, shape (B,), without gradient; clipped share, scalar.

    Source:
        X. Chen et al., "Randomized Ensembled Double Q-Learning", 2021.
    """
    config = composer.config
    if not isinstance(target_samples, TargetSamples):
        target_samples = sample_target(composer, target_samples, batch.action.shape)
    drawn_all = config.num_min_qs == config.num_qs  # in whatever order
    heads = target_critic if drawn_all else take_heads(target_critic, target_samples.heads)
    judges = heads if config.select == "best" else None
    there = (batch.next_state, batch.next_context)
    acted = composer.act(
        actor, judges, *there, target_samples.noise, gain, target_samples.candidate_noise
    )
    values = acted.value
    if values is None:
        values = composer.value(heads, batch.next_state, acted.action)
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
    composer: ActionComposer, critic: Params, batch: Batch, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return each head's own loss, averaged, and the values (E, B).

    It is of each head's error, never of their mean's, which would couple the heads: the square; or,
    of values within a range, the cross-entropy of the target's share p of it,

        -p log q - (1 - p) log(1 - q),   q the sigmoid of the head's logit

    whose gradient is q - p whatever q is. Squares hardly notice that a chance of success of .02 is
    taken for one of .06, and where success is rare all there is to climb is in such differences.

    Source:
        D. Kalashnikov et al., "QT-Opt", 2018: values of a reward of 0 or 1 as a sigmoid's.
        J. Farebrother et al., "Stop Regressing", 2024: why such losses train better.
    """
    logits = composer.logits(critic, batch.state, batch.action)
    values = composer.value_of(logits)
    if composer.value_range is None:
        return jnp.square(values - target).mean(), values
    low, high = composer.value_range
    share = (target - low) / (high - low)
    return (jax.nn.softplus(logits) - share * logits).mean(), values
