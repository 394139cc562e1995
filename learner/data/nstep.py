"""n-step returns, built when they are sampled, so that late labels and prices count."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from learner.config import AtTakeover, LearnerConfig


class LinkedRows(Protocol):
    """What windows need of a replay: rows that are linked to their successors."""

    config: LearnerConfig
    next_index: np.ndarray  # (capacity,) int64, slot of the row that follows, or -1
    end: np.ndarray  # (capacity,) bool
    intervened: np.ndarray  # (capacity,) bool

    def shaped_reward(self, slots: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Return the reward (N,) of steps at slots; `taken`: a person took over after it."""
        ...

    def terminal(self, slots: np.ndarray) -> np.ndarray:
        """Return at which slots (N,) nothing follows that a backup could count, as bool."""
        ...

    def can_start(self, slots: np.ndarray) -> np.ndarray:
        """Return at which slots (N,) a window can start, as bool."""
        ...


class NStepWindows(NamedTuple):
    """n-step windows that start at some slots."""

    reward: np.ndarray  # (N,) float32, sum of discount^i r_i
    discount: np.ndarray  # (N,) float32, discount^k or 0
    bootstrap: np.ndarray  # (N,) int64, slot of the state k steps later
    length: np.ndarray  # (N,) int64, k


def nstep_windows(
    replay: LinkedRows, start: np.ndarray, n_step: int, at_takeover: AtTakeover
) -> NStepWindows:
    """Return the n-step windows that start at slots (N,).

        R = sum_{i<k} discount^i r_i,   d = discount^k, or 0 after a terminal step

    with r the reward less what cost and take-overs are priced at. k is n, or less where the
    episode, the links, or (if asked for) a change of hands end.

    Args:
        replay: Holds the rows.
        start: Slots.
        n_step: n.
        at_takeover: What a change of hands does.
    """
    count = len(start)
    reward = np.zeros(count, np.float32)
    discount = np.ones(count, np.float32)
    length = np.zeros(count, np.int64)
    bootstrap = start.copy()
    current = start.copy()
    alive = np.ones(count, bool)
    for _ in range(n_step):
        if not alive.any():
            break
        next_index = replay.next_index[current]
        linked = next_index >= 0
        safe = np.where(linked, next_index, current)
        changed = linked & ~replay.end[safe]
        changed &= replay.intervened[safe] != replay.intervened[current]
        taken = changed & replay.intervened[safe]
        reward += np.where(alive, discount * replay.shaped_reward(current, taken), np.float32(0))
        terminal = replay.terminal(current)
        if at_takeover == "terminal":
            terminal = terminal | taken
        length += alive
        bootstrap = np.where(alive & linked, next_index, bootstrap)
        step = np.float32(replay.config.discount)
        discount = np.where(alive, discount * np.where(terminal, 0, step), discount)
        discount = discount.astype(np.float32)
        alive = alive & ~terminal & linked & replay.can_start(safe)
        if at_takeover != "through":
            alive = alive & ~changed
        current = np.where(alive, safe, current)
    return NStepWindows(reward, discount, bootstrap, length)
