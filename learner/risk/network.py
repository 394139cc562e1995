"""The critic's ensemble in jax, its bootstrapped target and one training step.

What trains and judges a critic runs through `logits` here; what runs it at 1 kHz without allocating
is `controllers.risk.predict_risk`. A test holds the two to one formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from handrail.risk_critic.format import INPUT_CLIP, RiskCritic

_ROWS = 8192  # [ticks] that `critic_logits` looks at in one compiled call

Params = tuple[tuple[jax.Array, jax.Array], ...]  # per layer: kernel (E, I, O), bias (E, O)


class State(NamedTuple):
    """Everything that training changes."""

    params: Params
    target: Params  # slow copy that the bootstrap is read from
    optimiser: Any


class Batch(NamedTuple):
    """Windows for every head; each head draws its own, so that the heads differ."""

    now: jax.Array  # (E, B, I), standardised
    after: jax.Array  # (E, B, I)
    violates: jax.Array  # (E, B) 0 or 1
    weight: jax.Array  # (E, B), mean 1: what a window counts, as violating ones are oversampled


def init_heads(key: jax.Array, heads: int, inputs: int, hidden: Sequence[int]) -> Params:
    """Return He-uniform weights of independent heads; the output begins near a low risk."""
    layers = []
    for a, b in pairwise([inputs, *hidden]):
        key, now = jax.random.split(key)
        bound = (6.0 / a) ** 0.5
        kernel = jax.random.uniform(now, (heads, a, b), jnp.float32, -bound, bound)
        layers.append((kernel, jnp.zeros((heads, b), jnp.float32)))
    bound = (1.0 / hidden[-1]) ** 0.5
    kernel = jax.random.uniform(key, (heads, hidden[-1], 1), jnp.float32, -bound, bound)
    return (*layers, (kernel, jnp.full((heads, 1), -2.0, jnp.float32)))


def standardise(features: jax.Array, mean: jax.Array, rate: jax.Array) -> jax.Array:
    """Return features as the network sees them, bounded."""
    return jnp.clip((features - mean) * rate, -INPUT_CLIP, INPUT_CLIP)


def logits(params: Params, x: jax.Array) -> jax.Array:
    """Return the logit of every head, (E, B), for inputs (E, B, I)."""
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(jnp.einsum("ebi,eio->ebo", x, kernel) + bias[:, None])
    kernel, bias = params[-1]
    return (jnp.einsum("ebi,eio->ebo", x, kernel) + bias[:, None])[..., 0]


def bootstrap(violates: jax.Array, next_risk: jax.Array, discount: float) -> jax.Array:
    """Return the target y + (1 - y) discount Q(s', a'); a violation ends the sum.

    Args:
        violates: 0 or 1.
        next_risk: Of the state a window later, by the most pessimistic head.
        discount: Per window [-].

    Source:
        B. Thananjeyan et al., "Recovery RL", 2021, with a maximum over heads and the discount of a
        horizon in seconds.
    """
    return violates + (1.0 - violates) * discount * next_risk


def pessimistic(params: Params, x: jax.Array) -> jax.Array:
    """Return the largest risk over the heads, shape of x without heads and inputs.

    Args:
        params: Of E heads.
        x: Shape (..., I).
    """
    flat = x.reshape(1, -1, x.shape[-1])
    every = logits(params, jnp.broadcast_to(flat, (params[0][0].shape[0], *flat.shape[1:])))
    return jax.nn.sigmoid(every.max(0)).reshape(x.shape[:-1])


def critic_logits(critic: RiskCritic, features: np.ndarray) -> np.ndarray:
    """Return the logits of every head of a critic, (E, N) float32.

    Args:
        critic: Not empty.
        features: Shape (N, F) with F >= inputs; what is beyond the inputs is passed over.
    """
    layers = tuple((jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in critic.layers)
    every = []
    for start in range(0, len(features), _ROWS):
        part = features[start : start + _ROWS, : critic.mean.size]
        rows = np.zeros((_ROWS, critic.mean.size), np.float32)  # of one shape, compiled once
        rows[: len(part)] = part
        said = _standardised_logits(layers, critic.mean, critic.inverse_std, rows)
        every.append(np.asarray(said)[:, : len(part)])
    return np.concatenate(every, axis=1)


@jax.jit
def _standardised_logits(
    params: Params, mean: jax.Array, rate: jax.Array, rows: jax.Array
) -> jax.Array:
    x = standardise(rows, mean, rate)
    return logits(params, jnp.broadcast_to(x, (params[0][0].shape[0], *x.shape)))


def train_step(
    optimiser: optax.GradientTransformation,
    state: State,
    batch: Batch,
    discount: float,
    tau: float,
) -> tuple[State, jax.Array]:
    """Take one gradient step of every head toward the bootstrapped target; return the loss."""
    next_risk = pessimistic(state.target, batch.after)
    target = jax.lax.stop_gradient(bootstrap(batch.violates, next_risk, discount))

    def loss_of(params: Params) -> jax.Array:
        # heads don't share weights: the sum of their losses trains each as if it were alone
        each = optax.sigmoid_binary_cross_entropy(logits(params, batch.now), target)
        return (batch.weight * each).mean(1).sum()

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    updates, optimiser_state = optimiser.update(grads, state.optimiser, state.params)
    params: Params = optax.apply_updates(state.params, updates)  # type: ignore[assignment]
    slow: Params = optax.incremental_update(params, state.target, tau)  # type: ignore
    return State(params, slow, optimiser_state), loss
