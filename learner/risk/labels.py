"""What counts as a violation, tick by tick, and what follows from it for windows of ticks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Limits(NamedTuple):
    """Beyond these a tick violates."""

    force: float  # [N], |F| on the tool, of the task
    tank: float  # [J], at or below it while the gate holds the target back
    q_low: np.ndarray  # (7,) [rad], joint limits, margin included
    q_high: np.ndarray  # (7,) [rad]


def violations(
    limits: Limits,
    wrench: np.ndarray,
    tank: np.ndarray,
    gate: np.ndarray,
    q: np.ndarray,
    fault: np.ndarray,
) -> np.ndarray:
    """Return which ticks violate, shape (T,) bool.

    Args:
        limits: What is allowed.
        wrench: Of the environment on the tool, base frame, shape (T, 6) [N, N m].
        tank: Energy left, shape (T,) [J].
        gate: Share of the step that the tank granted, shape (T,) [-].
        q: Joint angles, shape (T, 7) [rad].
        fault: Code of the robot or chain, 0 for none, shape (T,).
    """
    hard = np.linalg.norm(wrench[:, :3], axis=1) > limits.force
    starved = (tank <= limits.tank) & (gate < 1.0)
    cornered = ((q < limits.q_low) | (q > limits.q_high)).any(axis=1)
    return hard | starved | cornered | (fault != 0)


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
