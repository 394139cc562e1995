"""Batch and learning rates that go with another number of updates per step.

More updates from the same data over-fit the critics more, which smaller batches counter, and wear
the networks out more, which smaller steps counter. Both best values were found to fall as powers of
the ratio:

    batch = batch_0 (utd_0 / utd)^(1/3),    rate = rate_0 (utd_0 / utd)^(1/3)

with the values of the preset as reference. The exponents differ between tasks; a third is what
takes a batch of 256 to 128, and a rate to half, as the ratio goes from 1 to 8.

Source:
    O. Rybkin et al., "Value-Based Deep RL Scales Predictably", 2025: the form of both laws.
"""

from __future__ import annotations

from typing import Any

EXPONENT = 1 / 3  # [-]
MULTIPLE = 8  # [rows], a batch is a whole number of these
RATES = ("critic_lr", "actor_lr")
RANGE = (0.25, 32.0)  # [updates/env step], beyond it the laws aren't followed further


def scaled(utd: float, reference: dict[str, Any]) -> dict[str, Any]:
    """Return batch, critic_lr and actor_lr for a ratio.

    Args:
        utd: The ratio [updates/env step], positive.
        reference: "utd", "batch", "critic_lr" and "actor_lr" that go together.
    """
    if utd == reference["utd"]:
        return {name: reference[name] for name in ("batch", *RATES)}
    low, high = RANGE
    factor = (reference["utd"] / min(max(utd, low), high)) ** EXPONENT
    batch = max(MULTIPLE, MULTIPLE * round(reference["batch"] * factor / MULTIPLE))
    return {"batch": batch, **{name: float(f"{reference[name] * factor:.3g}") for name in RATES}}
