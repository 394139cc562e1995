"""A set of slots that can be drawn from uniformly, in constant time per change."""

from __future__ import annotations

import numpy as np


class IndexSet:
    """Slots of a ring; removal fills the hole with the last, so members stay contiguous."""

    def __init__(self, capacity: int) -> None:
        self._members = np.zeros(capacity, np.int64)
        self._place = np.full(capacity, -1, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, slot: int) -> bool:
        return bool(self._place[slot] >= 0)

    def has(self, slots: np.ndarray) -> np.ndarray:
        """Return which slots (N,) are members, as bool (N,)."""
        return self._place[slots] >= 0

    def add(self, slot: int) -> None:
        """Add a slot; a member stays one."""
        if self._place[slot] < 0:
            self._members[self._count] = slot
            self._place[slot] = self._count
            self._count += 1

    def remove(self, slot: int) -> None:
        """Remove a slot if it is a member."""
        place = self._place[slot]
        if place >= 0:
            self._count -= 1
            last = self._members[self._count]
            self._members[place] = last
            self._place[last] = place
            self._place[slot] = -1

    def members(self) -> np.ndarray:
        """Return a copy of the slots, in no particular order."""
        return self._members[: self._count].copy()

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return slots drawn with replacement."""
        return self._members[rng.integers(0, self._count, shape)]
