"""What a base policy is to the learner: a black box that proposes chunks of actions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

Carry = Any


class Base(Protocol):
    """Proposes actions; may be stateful (through its carry), stochastic, slow or remote."""

    chunk: int  # h, actions per proposal
    execute: int  # actions taken from a proposal before the next

    def propose(
        self,
        obs: np.ndarray,
        key: np.ndarray | None,
        carry: Carry,
        noise: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Carry]:
        """Return a chunk (h, A) float32 in [-1, 1] and the carry for the next proposal.

        Args:
            obs: State (S,) float32, in its own units.
            key: Random key for a stochastic base, else None.
            carry: From the previous proposal of this episode, None at its start.
            noise: For a base that decodes noise into actions, else None.
        """
        ...


class StepContext(NamedTuple):
    """The base's context at one env step, as it is stored with the row."""

    action: np.ndarray  # (A,) float32
    position: int  # [-], of the action within its chunk
    valid: bool  # False: no base, or it failed
