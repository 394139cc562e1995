"""The report's panels about the networks: error on what is new, bias, dead units, weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from actor.report.axes import (
    AMBER,
    BLUE,
    FAINT,
    GREY,
    RED,
    TEAL,
    VIOLET,
    curve,
    heading,
    percent_axis,
)
from actor.report.summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 4
CHARACTER = 0.045  # [-], of a panel's width
Lines = tuple[tuple[str, str, str], ...]  # key in the metrics, label, colour
_TD: Lines = (
    ("td_holdout", "new", TEAL),
    ("td_online", "own", BLUE),
    ("td_demo", "human", AMBER),
)
_DORMANT: Lines = (("dormant_critic", "critics", VIOLET), ("dormant_actor", "actor", TEAL))
_NORM: Lines = (("norm_critic", "critics", VIOLET), ("norm_actor", "actor", TEAL))


def draw_networks(panels: list[Axes], rows: list[Row], refused: int) -> None:
    """Draw the panels from left to right.

    Args:
        panels: PANELS axes.
        rows: All rows of metrics, oldest first.
        refused: Publications that the gate refused; a red line stands where.
    """
    _several(panels[0], rows, "TD error", _TD)
    for step in refusals(rows):
        panels[0].axvline(step, color=RED, linewidth=0.9, alpha=0.7, zorder=1)
    if refused:
        panels[0].text(
            0.98, 0.04, f"{refused} refused", ha="right", color=RED, fontsize=8,
            transform=panels[0].transAxes,
        )  # fmt: skip
    curve(panels[1], "Q minus return", BLUE, *series(rows, "q_bias"))
    panels[1].axhline(0.0, color=GREY, linewidth=0.8)
    _several(panels[2], rows, "dormant", _DORMANT)
    panels[2].set_ylim(0, max(0.05, panels[2].get_ylim()[1]))
    panels[2].yaxis.set_major_formatter(percent_axis())
    _several(panels[3], rows, "weights", _NORM)
    for axes in (panels[0], panels[3]):
        axes.set_ylim(0, axes.get_ylim()[1])


def series(rows: list[Row], key: str) -> tuple[list[float], np.ndarray]:
    """Return the training steps at which the learner told a number, and the numbers (N,)."""
    points = [
        (float(r.get("env_steps") or 0), float(r[key]))
        for r in rows
        if r.get("kind") == "learner" and isinstance(r.get(key), int | float)
    ]
    return [p[0] for p in points], np.asarray([p[1] for p in points])


def refusals(rows: list[Row]) -> list[float]:
    """Return the training steps by which the gate had refused more weights than before."""
    steps, counts = series(rows, "refused")
    before = np.concatenate([[0.0], counts[:-1]])
    return [step for step, more in zip(steps, counts > before, strict=True) if more]


def _several(
    axes: Axes, rows: list[Row], name: str, lines: tuple[tuple[str, str, str], ...]
) -> None:
    found = [(label, colour, *series(rows, key)) for key, label, colour in lines]
    found = [line for line in found if line[2]]
    if not found:
        curve(axes, name, FAINT, [], np.zeros(0))
        return
    heading(axes, name)
    axes.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])
    right = 1.0
    for label, colour, steps, values in reversed(found):
        axes.plot(steps, values, color=colour, linewidth=1.4, solid_capstyle="round")
        axes.text(
            right, 1.045, label, ha="right", color=colour, fontsize=7.5, transform=axes.transAxes
        )
        right -= CHARACTER * (len(label) + 1)
