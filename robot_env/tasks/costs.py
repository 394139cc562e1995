"""What a step costs and whether it breaks a rule: pure functions of the snapshot at its end.

Rules of the contact tasks: A, the tool meets no more than a force; B, an episode puts no more than
an energy into the virtual spring. Cost is that energy, granted or only asked for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from controllers.robot import Snapshot

INJECTED = 1.0  # [1/J], weight of energy that the gate granted
REFUSED = 1.0  # [1/J], weight of energy that it held back: asking for it is no better


class Limits(NamedTuple):
    """What is allowed; infinity allows everything."""

    force: float = math.inf  # [N], rule A: largest |F| on the tool in any tick of the step
    energy: float = math.inf  # [J], rule B: injected in the episode so far


def cost(snapshot: Snapshot, injected: float = INJECTED, refused: float = REFUSED) -> float:
    """Return what a step costs [-]: weighted energy injected and refused, 0 or more.

    Args:
        snapshot: At the end of the step.
        injected: Weight [1/J].
        refused: Weight [1/J].
    """
    energy = injected * snapshot.energy_injected + refused * snapshot.energy_refused
    return max(0.0, float(energy))


def violation(snapshot: Snapshot, limits: Limits, spent: float) -> bool:
    """Return whether a step breaks a rule.

    The chain reports the peak of the whole force, which is |F_xy| where nothing carries the tool.

    Args:
        snapshot: At the end of the step.
        limits: What is allowed.
        spent: Energy injected in this episode, this step included [J].
    """
    return bool(snapshot.force_peak > limits.force or spent > limits.energy)
