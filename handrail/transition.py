"""One row of experience, as it is spooled, sent, stored and replayed.

Rows of an episode are consecutive: row t holds the observation *before* action t, and one last row
(`end`) holds the observation after the last action, so that each frame is stored once and the next
observation of row t is the observation of row t + 1. n-step returns, chunks and Monte-Carlo returns
are built from rows at sample time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from handrail.errors import ProtocolMismatch
from handrail.spec import EnvSpec

LARGEST = float(np.finfo(np.float32).max)


class Source(IntEnum):
    """Who the row is from."""

    DEMO = 0  # a demonstration
    ONLINE = 1  # training roll-out
    EVAL = 2  # evaluation; stored, never trained on


@dataclass(frozen=True, slots=True)
class Transition:
    """One row; on an `end` row only the observation, the base's context and ids have meaning."""

    episode: int  # [-], number of the episode within this actor's run, from 0
    t: int  # [steps], index within the episode, from 0
    source: int  # Source
    state: np.ndarray  # (S,) float32
    action: np.ndarray  # (A,) float32, what was sent to the host: after edit, clip and human
    policy_action: np.ndarray  # (A,) float32, what the policy wanted
    filter_delta: np.ndarray  # (A,) float32, what the host changed: executed - sent
    base_action: np.ndarray  # (A,) float32, the base's proposal for this step; 0 without a base
    base_pos: int = 0  # [-], position of base_action within its chunk
    base_valid: bool = False  # False: no base, or it failed
    reward: float = 0.0  # r_{t+1}
    terminated: bool = False  # the task ended; no bootstrap
    truncated: bool = False  # time ran out; bootstrap from the end row
    success: bool = False  # the step reached the goal
    intervened: bool = False  # a person, or the scripted operator, drove this step
    cost: float = 0.0  # [-], of the step, 0 or more: energy injected and refused; kept as float32
    violation: bool = False  # the step broke a rule of the task
    end: bool = False  # observation after the last action; also where the run's budget cut it
    images: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (H, W, 3) uint8

    def validate(self, spec: EnvSpec) -> None:
        """Raise unless shapes, dtypes and values fit the spec.

        Raises:
            ProtocolMismatch: Names the field, what was given and what would be right.
        """
        wanted = {
            "state": (spec.state,),
            "action": (spec.action,),
            "policy_action": (spec.action,),
            "filter_delta": (spec.action,),
            "base_action": (spec.action,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise ProtocolMismatch(
                    f"transition.{name} must be float32 {shape}, got {array.dtype} {array.shape}"
                )
        if not np.isfinite(np.concatenate([getattr(self, name) for name in wanted])).all():
            for name in wanted:
                if not np.isfinite(getattr(self, name)).all():
                    raise ProtocolMismatch(
                        f"transition.{name} must be finite, got {getattr(self, name)}"
                    )
        if self.images.keys() != spec.images.keys():
            raise ProtocolMismatch(
                f"transition.images must be {sorted(spec.images)}, got {sorted(self.images)}"
            )
        for name, image in self.images.items():
            if image.shape != tuple(spec.images[name]) or image.dtype != np.uint8:
                raise ProtocolMismatch(
                    f"transition.images.{name} must be uint8 {tuple(spec.images[name])}, "
                    f"got {image.dtype} {image.shape}"
                )
        if not abs(self.reward) <= LARGEST:  # kept as float32
            raise ProtocolMismatch(
                f"transition.reward must be finite, also as float32, got {self.reward} in step "
                f"{self.t} of episode {self.episode}"
            )
        if not 0.0 <= self.cost <= LARGEST:
            raise ProtocolMismatch(f"transition.cost must be finite and 0 or more, got {self.cost}")
