"""What counts as a violation: the one definition, of a step that ran and of ticks to learn from.

    |F| beyond the force, energy put in beyond the budget, tank at its floor while the gate holds
    the target back, a joint beyond its range, or a fault

A rule without a limit is never broken, so that a task names two of them and the risk critic others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Limits(NamedTuple):
    """Beyond these is a violation; the defaults allow everything."""

    force: float = math.inf  # [N], |F| on the tool
    energy: float = math.inf  # [J], injected in the episode so far
    tank: float = -math.inf  # [J], at or below it while the gate holds the target back
    q_low: np.ndarray | None = None  # (7,) [rad], joint limits, margin included
    q_high: np.ndarray | None = None  # (7,) [rad]


def violates(
    limits: Limits,
    force: np.ndarray | float,
    *,
    spent: np.ndarray | float = 0.0,
    tank: np.ndarray | float = math.inf,
    gate: np.ndarray | float = 1.0,
    q: np.ndarray | None = None,
    fault: np.ndarray | int = 0,
) -> np.ndarray:
    """Return whether a step, or each of T ticks, breaks a rule; shape () or (T,), bool.

    Args:
        limits: What is allowed.
        force: |F| of the environment on the tool, in a step its largest [N].
        spent: Energy injected in the episode so far [J].
        tank: Energy left [J].
        gate: Share of the step that the gate granted [-].
        q: Joint angles, shape (..., 7) [rad]; None where they don't count.
        fault: Code of the robot or chain, 0 for none; a step says it by other means.
    """
    starved = (np.asarray(tank) <= limits.tank) & (np.asarray(gate) < 1.0)
    bad = (np.asarray(force) > limits.force) | (np.asarray(spent) > limits.energy) | starved
    if q is not None and limits.q_low is not None:
        bad = bad | (q < limits.q_low).any(axis=-1)
    if q is not None and limits.q_high is not None:
        bad = bad | (q > limits.q_high).any(axis=-1)
    return bad | (np.asarray(fault) != 0)
