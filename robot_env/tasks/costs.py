"""What a step costs: a pure function of the snapshot at its end.

Cost is the energy put into the virtual spring, granted or only asked for; which steps break a rule
says `handrail.risk_critic.violation`.
"""

from __future__ import annotations

from controllers.robot import Snapshot

INJECTED = 1.0  # [1/J], weight of energy that the gate granted
REFUSED = 1.0  # [1/J], weight of energy that it held back: asking for it is no better


def cost(snapshot: Snapshot, injected: float = INJECTED, refused: float = REFUSED) -> float:
    """Return what a step costs [-]: weighted energy injected and refused, 0 or more.

    Args:
        snapshot: At the end of the step.
        injected: Weight [1/J].
        refused: Weight [1/J].
    """
    energy = injected * snapshot.energy_injected + refused * snapshot.energy_refused
    return max(0.0, float(energy))
