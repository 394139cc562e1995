"""From chunks to one base action per env step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from learner.bases.protocol import Base, BaseContext, Carry, no_base

Propose = Callable[[np.ndarray], np.ndarray]


class ChunkQueue:
    """Hands out a base's chunk action by action, and asks again when it is used up or flushed."""

    def __init__(self, base: Base | None, action: int) -> None:
        self._base = base
        self._action = action
        self._carry: Carry = None
        self._chunk: np.ndarray | None = None
        self._position = 0

    def reset(self) -> None:
        """Begin an episode: forget the chunk and the base's carry."""
        self._carry = None
        self.flush()

    def flush(self) -> None:
        """Forget the chunk: somebody else had the arm, so it no longer fits the state."""
        self._chunk = None
        self._position = 0

    def next(self, state: np.ndarray) -> BaseContext:
        """Return the base's context at a state (S,), one env step after the last call."""
        if self._base is None:
            return no_base(self._action)
        if self._chunk is None or self._position >= self._base.execute:
            self._chunk, self._carry = self._base.propose(state, None, self._carry)
            self._position = 0
        if not np.isfinite(self._chunk[self._position]).all():
            self.flush()
            return no_base(self._action)
        context = BaseContext(self._chunk[self._position].copy(), self._position, True)
        self._position += 1
        return context


def relabel_episode(propose: Propose, states: np.ndarray, execute: int, phase: int) -> BaseContext:
    """Return what the queue would have handed out along a recorded episode.

    Fresh proposals at every frame would only ever show the learner the first action of a chunk. The
    first chunk is cut short by `phase`, so that episodes don't all ask at the same frames.

    Args:
        propose: Chunks (N, h, A) at states (N, S).
        states: The episode's states, shape (T, S).
        execute: Actions taken from a chunk.
        phase: Actions by which the first chunk is cut short, below `execute`.

    Returns:
        The context of its T steps.
    """
    steps = np.arange(len(states))
    asked = np.maximum(0, (steps + phase) // execute * execute - phase)
    chunks = np.asarray(propose(states))
    return BaseContext(chunks[asked, steps - asked], steps - asked, np.ones(len(states), bool))
