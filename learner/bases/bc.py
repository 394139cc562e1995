"""Behaviour cloning of chunks, as it acts: a small network; `bc_fit` trains it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from learner.bases.protocol import Carry
from learner.config import BaseConfig
from learner.nets.mlp import Params, mlp
from learner.nets.normaliser import Normaliser, normalise


class BCWeights(NamedTuple):
    """Everything that a trained base needs."""

    params: Params
    mask: np.ndarray  # (S,) float32, 0 for parts of the state that the base doesn't see


@partial(jax.jit, static_argnums=0)
def predict(action: int, weights: BCWeights, normaliser: Normaliser, state: jax.Array) -> jax.Array:
    """Return chunks (..., h, A) in [-1, 1] at states (..., S) in their own units."""
    return jnp.clip(predict_scaled(action, weights, normalise(normaliser, state)), -1.0, 1.0)


def predict_scaled(action: int, weights: BCWeights, scaled: ArrayLike) -> jax.Array:
    """Return chunks (..., h, A), not clipped, at normalised states (..., S)."""
    out = mlp(weights.params, jnp.asarray(scaled) * weights.mask)
    return out.reshape(*out.shape[:-1], -1, action)


class BCBase:
    """A trained behaviour-cloning base; implements `Base`."""

    def __init__(
        self, config: BaseConfig, action: int, weights: BCWeights, normaliser: Normaliser
    ) -> None:
        self.chunk = config.chunk
        self.execute = config.execute
        self._action = action
        self._weights = weights
        self._normaliser = normaliser

    def propose(
        self,
        obs: np.ndarray,
        key: np.ndarray | None,
        carry: Carry,
        noise: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Carry]:
        """Return a chunk; see `Base.propose`. This base is deterministic and keeps no carry."""
        return np.asarray(predict(self._action, self._weights, self._normaliser, obs)), carry
