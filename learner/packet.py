"""What the learner publishes: everything that the actor needs to act, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from handrail.errors import ProtocolMismatch
from handrail.spec import EnvSpec
from learner.bases.bc import BCWeights
from learner.config import BaseConfig, LearnerConfig
from learner.networks import Params, init_mlp
from learner.normaliser import Normaliser
from learner.operator import Operator, make_operator
from learner.trees import flatten, unflatten
from learner.update import init_state


class PolicyWeights(NamedTuple):
    """Weights of a policy."""

    actor: Params
    ema_actor: Params
    critic: Params | None  # the heads that select; None if the method doesn't
    base: BCWeights | None
    normaliser: Normaliser


def pack(weights: PolicyWeights) -> dict[str, np.ndarray]:
    """Return the weights as flat copies: "actor/...", "base/...", ...."""
    return {
        name: array
        for part, tree in weights._asdict().items()
        for name, array in flatten(tree, part).items()
    }


def split_base(
    arrays: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the frozen base's arrays, which travel once, and the rest, which travel often."""
    base = {name: a for name, a in arrays.items() if name.startswith("base/")}
    return base, {name: a for name, a in arrays.items() if name not in base}


def halved(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a packet with 16 bits a weight, rounded to the nearest: 2^-11 of it at most.

    The normaliser keeps its bits: its hash is compared. A weight beyond 65504 becomes an infinity,
    which no broadcast takes.
    """
    with np.errstate(over="ignore"):
        return {
            name: array if name.startswith("normaliser/") else array.astype(np.float16)
            for name, array in arrays.items()
        }


def widened(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a packet with 32 bits a weight; what `halved` rounded away stays away."""
    return {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }


def template(
    learner: LearnerConfig, base: BaseConfig, spec: EnvSpec, with_base: bool
) -> PolicyWeights:
    """Return the shapes and dtypes that a packet must have."""
    operator: Operator = make_operator(learner, spec)

    def build() -> PolicyWeights:
        key = jax.random.key(0)
        state = init_state(operator, spec.state, spec.action, key)
        outputs = base.chunk * spec.action
        zeros: Any = jax.numpy.zeros(spec.state)
        bc = BCWeights(init_mlp(key, spec.state, base.hidden, outputs), zeros)
        critic = state.target_critic if learner.needs_critic_to_act else None
        return PolicyWeights(
            state.actor,
            state.ema_actor,
            critic,
            bc if with_base else None,
            Normaliser(zeros, zeros),
        )

    return jax.eval_shape(build)


def unpack_weights(
    like: PolicyWeights, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> PolicyWeights:
    """Return the weights of a packet.

    Raises:
        CheckpointError: An array is missing or has another shape.
        ProtocolMismatch: The normaliser is not the one that the meta data names.
    """
    parts: dict[str, Any] = {
        name: None if tree is None else unflatten(tree, arrays, name)
        for name, tree in like._asdict().items()
    }
    weights = PolicyWeights(**parts)
    if weights.normaliser.hash != meta["normaliser_hash"]:
        raise ProtocolMismatch(
            f"policy version {meta.get('version')} was trained with normaliser "
            f"{meta['normaliser_hash']}, but came with {weights.normaliser.hash}; refused"
        )
    return weights
