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


class BaseContext(NamedTuple):
    """What the base says at one step or many: computed on the actor, stored, trained on.

    Numbers of one step while acting, arrays of numpy or jax with leading axes (...) elsewhere.
    """

    action: Any  # (..., A) float32, the element of the chunk that the base would execute now
    position: Any  # (...,) [steps], index of it within the chunk
    valid: Any  # (...,), 0 or False where there is no base or it failed


def no_base(action: int) -> BaseContext:
    """Return the context of one step where there is no base, or it failed.

    Args:
        action: A.
    """
    return BaseContext(np.zeros(action, np.float32), 0, False)
