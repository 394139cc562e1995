"""What follows from violations, tick by tick, for windows of ticks."""

from __future__ import annotations

import numpy as np


def ticks_to(violation: np.ndarray) -> np.ndarray:
    """Return the ticks until the next violation, shape (T,), 0 in one, inf where none follows."""
    at = np.where(violation, np.arange(len(violation), dtype=float), np.inf)
    following = np.minimum.accumulate(at[::-1])[::-1]
    return following - np.arange(len(violation))


def window_labels(violation: np.ndarray, ticks: int) -> np.ndarray:
    """Return for each start whether the window of that many ticks violates, shape (T,) bool.

    Windows that end beyond the episode see what there is of them.
    """
    return ticks_to(violation) < ticks


def outcomes(violation: np.ndarray, ticks: int, discount: float) -> np.ndarray:
    """Return what a perfect critic would have said, shape (T,) in 0..1.

    With d whole windows to the first violating one it is discount^d, the closed form of

        Q(s) = c + (1 - c) discount Q(s')

    along the episode, and 0 where no violation follows.

    Args:
        violation: Shape (T,) bool.
        ticks: Of a window.
        discount: Per window [-].
    """
    ahead = ticks_to(violation)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(ahead), 0.0, discount ** np.floor(ahead / ticks))
