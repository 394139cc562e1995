"""n-step returns, built when they are sampled, so that late labels and prices count."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from learner.config import Handover

if TYPE_CHECKING:
    from learner.replay import Replay


class Windows(NamedTuple):
    """n-step windows that start at some slots."""

    reward: np.ndarray  # (N,) float32, sum of discount^i r_i
    discount: np.ndarray  # (N,) float32, discount^k or 0
    bootstrap: np.ndarray  # (N,) int64, slot of the state k steps later
    length: np.ndarray  # (N,) int64, k


def build(replay: Replay, start: np.ndarray, n_step: int, handover: Handover) -> Windows:
    """Return the n-step windows that start at slots (N,).

        R = sum_{i<k} discount^i r_i,   d = discount^k, or 0 after a terminal step

    with r the reward less what cost and take-overs are priced at. k is n, or less where the
    episode, the links, or (if asked for) a change of hands end.

    Args:
        replay: Holds the rows.
        start: Slots.
        n_step: n.
        handover: What a change of hands does.
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
        following = replay.following[current]
        linked = following >= 0
        safe = np.where(linked, following, current)
        changed = linked & ~replay.end[safe]
        changed &= replay.intervened[safe] != replay.intervened[current]
        taken = changed & replay.intervened[safe]
        reward += np.where(alive, discount * replay.worth(current, taken), np.float32(0))
        terminal = replay.terminal(current)
        if handover == "terminal":
            terminal = terminal | taken
        length += alive
        bootstrap = np.where(alive & linked, following, bootstrap)
        step = np.float32(replay.config.discount)
        discount = np.where(alive, discount * np.where(terminal, 0, step), discount)
        discount = discount.astype(np.float32)
        alive = alive & ~terminal & linked & replay.startable(safe)
        if handover != "through":
            alive = alive & ~changed
        current = np.where(alive, safe, current)
    return Windows(reward, discount, bootstrap, length)
