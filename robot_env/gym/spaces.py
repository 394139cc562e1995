"""Spaces of a gymnasium environment as Handrail's: a flat named state and actions in [-1, 1]."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from handrail.errors import ConfigError, Error
from handrail.spec import slices_of

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_IMAGE_SIDE = 16  # [px], an array at least that high and wide is taken for an image


class Part(NamedTuple):
    """One leaf of an observation."""

    name: str  # of its slice of the state
    path: tuple[Any, ...]  # keys and indices from the whole observation to it
    space: spaces.Space[Any]
    size: int  # [-], values in the state


class ActionMap(NamedTuple):
    """The affine map from [-1, 1] to an environment's own actions."""

    low: np.ndarray  # (A,) float64, unit of the environment
    high: np.ndarray  # (A,) float64
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """Return the environment's action of one in [-1, 1], shape (A,); bounds meet exactly."""
        share = (np.asarray(action, np.float64) + 1.0) / 2.0
        own = self.low * (1.0 - share) + self.high * share
        return np.clip(own, self.low, self.high).astype(self.dtype).reshape(self.shape)

    def from_env(self, action: np.ndarray) -> np.ndarray:
        """Return the action in [-1, 1] (A,) float32 of one of the environment's; its inverse."""
        own = np.asarray(action, np.float64).reshape(-1)
        unit = 2.0 * (own - self.low) / (self.high - self.low) - 1.0
        return np.clip(unit, -1.0, 1.0).astype(np.float32)


def action_map(space: spaces.Space[Any], name: str) -> ActionMap:
    """Return how actions in [-1, 1] become those of a space.

    Args:
        space: The environment's action space.
        name: Of the environment, for messages.

    Raises:
        ConfigError: Not a Box of floats with finite bounds.
    """
    right = "a Box of floats with finite bounds, such as Box(-1, 1, (4,), float32)"
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise ConfigError(
            f"{name} has the discrete actions {space}; the learner's are continuous: it needs "
            f"{right}"
        )
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(f"{name} has the action space {space}; the learner needs {right}")
    low = np.asarray(space.low, np.float64).reshape(-1)
    high = np.asarray(space.high, np.float64).reshape(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ConfigError(
            f"{name} has the action space {space}, whose bounds are not all finite and low below "
            f"high; the learner needs {right}: wrap it in gymnasium.wrappers.RescaleAction or "
            f"bound it"
        )
    return ActionMap(low, high, tuple(space.shape), np.dtype(space.dtype))


def layout(space: spaces.Space[Any], name: str) -> tuple[Part, ...]:
    """Return the leaves of an observation space in the order of the state.

    Args:
        space: The environment's observation space.
        name: Of the environment, for messages.

    Raises:
        ConfigError: A part is an image, or has no fixed length.
    """
    parts = tuple(_leaves(space, (), name))
    names = [part.name for part in parts]
    if not parts or len(set(names)) != len(names):
        raise ConfigError(
            f"{name} observes {names}; the learner needs one part or more, each with a name of its "
            f"own"
        )
    return parts


def slices(parts: tuple[Part, ...], clock: bool) -> dict[str, tuple[int, int]]:
    """Return the named slices of the state; the clock, if any, comes last as `time_left`."""
    return slices_of(
        **{part.name: part.size for part in parts}, **({"time_left": 1} if clock else {})
    )


def flatten(parts: tuple[Part, ...], observation: Any, name: str) -> np.ndarray:
    """Return an observation as one vector (S,) float32; discrete parts become one-hot.

    Raises:
        Error: A value is not finite.
    """
    values = [
        np.asarray(spaces.flatten(part.space, at_path(observation, part.path))).reshape(-1)
        for part in parts
    ]
    state = np.concatenate(values).astype(np.float32)
    if not np.isfinite(state).all():
        bad = [p.name for p, v in zip(parts, values, strict=True) if not np.isfinite(v).all()]
        raise Error(f"{name} gave an observation that is not finite, in {', '.join(bad) or 'all'}")
    return state


def at_path(observation: Any, path: tuple[Any, ...]) -> Any:
    """Return the leaf of an observation at a path of keys and indices."""
    for key in path:
        observation = observation[key]
    return observation


def _leaves(space: spaces.Space[Any], path: tuple[Any, ...], name: str) -> list[Part]:
    if isinstance(space, spaces.Dict):
        inner = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        return [_leaf(space, path, name)]
    return [leaf for key, sub in inner for leaf in _leaves(sub, (*path, key), name)]


def _leaf(space: spaces.Space[Any], path: tuple[Any, ...], name: str) -> Part:
    label = "_".join(map(str, path)) or "observation"
    if not isinstance(space, _FLAT):
        raise ConfigError(
            f"{name} observes {label} as {space}, which has no fixed length; the learner needs "
            f"parts that are Box, Discrete, MultiDiscrete or MultiBinary"
        )
    if isinstance(space, spaces.Box) and _is_image(space):
        raise ConfigError(
            f"{name} observes {label} as an image {space.shape} {space.dtype}; the learner learns "
            f"from state: give the environment one, by its arguments ([gym] kwargs) or by "
            f"gymnasium.wrappers.TransformObservation with what the image is to tell; if these are "
            f"{spaces.flatdim(space)} numbers and no image, wrap it in "
            f"gymnasium.wrappers.FlattenObservation"
        )
    return Part(label, path, space, int(spaces.flatdim(space)))


def _is_image(space: spaces.Box) -> bool:
    sides = sorted(space.shape)[-2:]
    return len(space.shape) >= 2 and min(sides) >= _IMAGE_SIDE
