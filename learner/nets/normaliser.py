"""Scaling of states by the statistics of the demonstrations: fitted once, then frozen and named."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LIMIT = 10.0  # [deviations], a state further out than this is clipped


class Normaliser(NamedTuple):
    """Mean and deviation of each state dimension; every weight is only good with its own."""

    mean: np.ndarray  # (S,) float32, unit of the state
    std: np.ndarray  # (S,) float32, unit of the state

    @property
    def hash(self) -> str:
        """16 hex digits of the content."""
        content = np.concatenate([self.mean, self.std]).astype("<f4").tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


def identity(size: int) -> Normaliser:
    """Return the normaliser that changes nothing within its limit."""
    return Normaliser(np.zeros(size, np.float32), np.ones(size, np.float32))


def fit(states: np.ndarray, floor: float) -> Normaliser:
    """Return the statistics of states (N, S).

    A dimension that hardly moves in the demonstrations would be blown up by its tiny deviation, so
    the deviation never falls below the floor.
    """
    mean = states.mean(0, dtype=np.float64)
    std = np.maximum(states.std(0, dtype=np.float64), floor)
    return Normaliser(mean.astype(np.float32), std.astype(np.float32))


def normalise(normaliser: Normaliser, state: jax.Array) -> jax.Array:
    """Return states (..., S) in deviations from the mean, clipped."""
    return jnp.clip((state - normaliser.mean) / normaliser.std, -LIMIT, LIMIT)
