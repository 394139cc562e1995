"""What the learner publishes: everything that the actor needs to act, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from handrail.errors import ProtocolMismatch
from handrail.spec import EnvSpec
from learner.algo.action import ActionComposer, make_action_composer
from learner.algo.networks import init_networks
from learner.algo.schedule import Phase
from learner.bases.bc import BCWeights
from learner.config import BaseConfig, LearnerConfig
from learner.nets.mlp import Params, init_mlp
from learner.nets.normaliser import Normaliser
from learner.nets.pytree_io import flatten, unflatten


class WeightsMeta(msgspec.Struct, frozen=True):
    """What a packet says of its weights."""

    version: int
    env_steps: int  # [env steps], taken in when they were made
    updates: int  # [-], done by then
    phase: Phase
    has_base: bool
    base_version: int
    normaliser_hash: str
    ramp: tuple[float, int] | None = None  # of `trust`; none before 2026-11-22
    proven: bool = True  # whether edits have done better than the base, see `trust`
    trained_steps: int = 0  # [env steps], that were trained on; 0 where it is not published


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


def to_float16(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a packet with 16 bits a weight, rounded to the nearest: 2^-11 of it at most.

    The normaliser keeps its bits: its hash is compared. A weight beyond 65504 becomes an infinity,
    which no broadcast takes.
    """
    with np.errstate(over="ignore"):
        return {
            name: array if name.startswith("normaliser/") else array.astype(np.float16)
            for name, array in arrays.items()
        }


def to_float32(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a packet with 32 bits a weight; what `to_float16` rounded away stays away."""
    return {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }


def template(
    learner: LearnerConfig, base: BaseConfig, spec: EnvSpec, with_base: bool
) -> PolicyWeights:
    """Return the shapes and dtypes that a packet must have."""
    composer: ActionComposer = make_action_composer(learner, spec)

    def build() -> PolicyWeights:
        key = jax.random.key(0)
        heads, actor = init_networks(composer, spec.state, spec.action, key)
        outputs = base.chunk * spec.action
        zeros: Any = jax.numpy.zeros(spec.state)
        bc = BCWeights(init_mlp(key, spec.state, base.hidden, outputs), zeros)
        critic = heads if learner.needs_critic_to_act else None
        base_weights = bc if with_base else None
        return PolicyWeights(actor, actor, critic, base_weights, Normaliser(zeros, zeros))

    return jax.eval_shape(build)


def parse_meta(meta: dict[str, Any]) -> WeightsMeta:
    """Return what a packet's meta data says.

    Raises:
        ProtocolMismatch: Something is missing or of another kind.
    """
    try:
        return msgspec.convert(meta, WeightsMeta)
    except msgspec.ValidationError as error:
        raise ProtocolMismatch(f"not the meta data of a policy: {error}") from None


def unpack_weights(
    like: PolicyWeights, weights_meta: WeightsMeta, arrays: dict[str, np.ndarray]
) -> PolicyWeights:
    """Return the weights of a packet.

    Raises:
        CheckpointError: An array is missing or has another shape.
        ProtocolMismatch: The normaliser is not the one that the packet names.
    """
    parts: dict[str, Any] = {
        name: None if tree is None else unflatten(tree, arrays, name)
        for name, tree in like._asdict().items()
    }
    weights = PolicyWeights(**parts)
    if weights.normaliser.hash != weights_meta.normaliser_hash:
        raise ProtocolMismatch(
            f"policy version {weights_meta.version} was trained with normaliser "
            f"{weights_meta.normaliser_hash}, but came with {weights.normaliser.hash}; refused"
        )
    return weights
