"""The critic's ensemble in jax, its bootstrapped target and one training step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from handrail.risk_critic.format import INPUT_CLIP

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
