"""Shape, dtype and bounds of every array that crosses a boundary."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from handrail.config import check, digest, from_dict, to_dict
from handrail.errors import ConfigError

_MAX_SIDE = 1 << 14  # [px], of an image
_MAX_SIZE = 1 << 20  # [values], of a state or an action


@dataclass(frozen=True)
class EnvSpec:
    """What an environment observes and accepts; both hosts compare its digest at hello."""

    task: str  # name of the task
    task_hash: str  # digest of everything that defines the task
    control_hz: float  # [Hz], policy steps per second
    horizon: int  # [steps], an episode is truncated here
    slices: dict[str, tuple[int, int]]  # part of the state vector: name -> [start, stop)
    action: int  # A, number of action dimensions, each in [-1, 1]
    images: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # name -> (H, W, 3) uint8
    gripper: int = -1  # index of the gripper's action dimension, -1 where there is none

    def __post_init__(self) -> None:
        check(self.action > 0, "action", self.action, "positive")
        check(self.horizon > 0, "horizon", self.horizon, "positive")
        check(0 < self.control_hz < math.inf, "control_hz", self.control_hz, "positive and finite")
        sizes = [n for shape in self.images.values() for n in shape]
        check(all(0 < n <= _MAX_SIDE for n in sizes), "images", self.images, f"1 to {_MAX_SIDE} px")
        parts = sorted(self.slices.values())
        ends = [0, *(stop for _, stop in parts)]
        whole = all(start == end <= stop for (start, stop), end in zip(parts, ends, strict=False))
        check(whole, "slices", self.slices, "consecutive parts of the state, from 0")
        check(0 < self.state <= _MAX_SIZE, "slices", self.slices, f"1 to {_MAX_SIZE} values in all")
        check(self.action <= _MAX_SIZE, "action", self.action, f"at most {_MAX_SIZE}")

    @cached_property
    def state(self) -> int:
        """Length S of the state vector."""
        return max((stop for _, stop in self.slices.values()), default=0)

    @property
    def hash(self) -> str:
        """Digest of the whole spec."""
        return digest(self)

    def part(self, state: np.ndarray, name: str) -> np.ndarray:
        """Return the named part of a state vector (..., S) -> (..., stop - start)."""
        start, stop = self.slices[name]
        return state[..., start:stop]


def dump_spec(spec: EnvSpec) -> str:
    """Return a spec as JSON text that `load_spec` reads back."""
    return json.dumps(to_dict(spec), indent=2) + "\n"


def load_spec(path: Path) -> EnvSpec:
    """Return the spec in a JSON file.

    Raises:
        ConfigError: The file is missing, or is no spec.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"can't read spec {path}: {error}") from None
    return from_dict(EnvSpec, table, "spec")


def slices_of(**sizes: int) -> dict[str, tuple[int, int]]:
    """Return consecutive named slices, in the order given.

    Args:
        sizes: Name of each part and its length.
    """
    slices, start = {}, 0
    for name, size in sizes.items():
        slices[name] = (start, start + size)
        start += size
    return slices
