"""What the panels of a report have in common: colours, ticks, phases, a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from actor.report.live_state import TRAINING, phase_name
from actor.report.summary import ACTING, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, FAINT = "#1f2933", "#7b8794", "#cbd2d9"
TEAL, AMBER, BLUE, VIOLET, RED = "#0f766e", "#c2570c", "#2563a8", "#6d4aa8", "#b3261e"
SHADES = {"roll-outs": "#e9edf1", "warm-up": "#f4f6f8"}


def frame(axes: Axes) -> None:
    """Give a panel only the frame that it needs: a line below, faint lines across."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelcolor=GREY, labelsize=8)
    axes.grid(axis="y", color=FAINT, linewidth=0.5, alpha=0.7)
    axes.set_axisbelow(True)


def style(axes: Axes, end: float, ticks: float) -> None:
    """Give a panel its ticks, at most so many, and only the frame that it needs."""
    axes.set_xlim(0, end)
    frame(axes)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}".replace(",", " "))
    axes.set_xticks(_ticks(end, ticks))


def _ticks(end: float, most: float) -> list[float]:
    step = next(s * 10.0**e for e in range(9) for s in (1, 2, 5) if end <= most * s * 10**e)
    return [i * step for i in range(int(end / step) + 1)]


def shade_phases(axes: Axes, rows: list[Row], end: float, named: bool) -> None:
    """Shade what came before the policy learned, and name the phases if asked to."""
    for name, start, stop in _phases(rows, end):
        if name != "online":
            axes.axvspan(start, stop, color=SHADES[name], linewidth=0, zorder=0)
        if named and stop - start > 0.007 * end * len(name):
            axes.text(
                (start + stop) / 2, 1.02, name, ha="center", va="bottom", color=GREY, fontsize=8,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _phases(rows: list[Row], end: float) -> list[tuple[str, float, float]]:
    starts: list[tuple[str, float]] = []
    for r in rows:
        name = phase_name(r.get("phase")) if r.get("kind") in ACTING else ""
        if name in TRAINING and name not in [n for n, _ in starts]:
            starts.append((name, float(r.get("env_steps") or 0)))
    stops = [start for _, start in starts[1:]]
    spans = zip(starts, [*stops, end], strict=False)  # neither where there are no phases
    return [(name, start, stop) for (name, start), stop in spans if stop > start]


def curve(axes: Axes, name: str, colour: str, steps: list[float], values: np.ndarray) -> None:
    """Draw one line, or say that there is nothing yet."""
    heading(axes, name)
    axes.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])
    if steps:
        axes.plot(steps, values, color=colour, linewidth=1.6, solid_capstyle="round")
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing yet", ha="center", color=GREY, transform=axes.transAxes)


def ensure_ylim(axes: Axes, low: float, high: float) -> None:
    """Make a panel show a range of values, whatever else it shows."""
    margin = 0.04 * (high - low)
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, low - margin), max(top, high + margin))


def heading(axes: Axes, text: str, pad: float = 8) -> None:
    """Write a panel's name above it."""
    axes.set_title(text, loc="left", fontsize=9.5, color=INK, weight="bold", pad=pad)


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{share:.0%}".replace("%", " %")


def percent_axis() -> Any:
    """Return the formatter of an axis of shares."""
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, decimals=0, symbol=" %")
