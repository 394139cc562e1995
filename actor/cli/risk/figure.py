"""Draw a risk critic: is its word true, what does its threshold cost, how early is it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from actor.report.axes import AMBER, BLUE, FAINT, GREY, INK, TEAL, frame
from handrail.risk_critic.format import RiskCritic
from learner.risk.calibrate import Scored
from learner.risk.config import RiskConfig
from learner.risk.metrics import violation_lead_times
from learner.risk.threshold import false_alarms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE = 0.5  # [s], shown before a violation
_SWEEP = 150  # thresholds that are drawn


def draw(critic: RiskCritic, scored: Scored, config: RiskConfig, results: dict[str, Any]) -> Figure:
    """Return the figure of a critic on held-out episodes.

    Args:
        critic: Calibrated.
        scored: Episodes with this critic's word.
        config: Table [risk].
        results: What `alarm_metrics` says of them.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(10, 4.2), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            1, 3, left=0.06, right=0.97, top=0.70, bottom=0.13, wspace=0.3, width_ratios=[1, 1, 1.3]
        )
        panels = [figure.add_subplot(grid[0, i]) for i in range(3)]
        _title(figure, results)
        for axes in panels:
            frame(axes)
        _draw_reliability(panels[0], results)
        _draw_cost(panels[1], critic, scored, config, results)
        _draw_course(panels[2], critic, scored)
        return figure


def _title(figure: Figure, results: dict[str, Any]) -> None:
    figure.text(0.06, 0.905, f"risk critic · version {results['version']}", fontsize=17,
                weight="bold")  # fmt: skip
    parts = [
        f"{_percent(results['announced'])} of {results['violating_episodes']} violations announced",
        f"{_percent(results['announced_in_time'])} at least {1e3 * results['announce_s']:.0f} ms "
        f"before",
        f"{results['false_alarms_per_s']:.3f} false alarms a second",
        f"AUC {results['auc']:.3f}" if results["auc"] is not None else "",
    ]
    text = "   ·   ".join(part for part in parts if part)
    figure.text(0.06, 0.835, text, fontsize=10, color=GREY)
    figure.text(0.97, 0.905, "Handrail", fontsize=10, color=FAINT, ha="right", weight="bold")


def _draw_reliability(axes: Axes, results: dict[str, Any]) -> None:
    said, came, count = np.array(results["reliability"], float).T
    _heading(axes, "what came of it, by what was said")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (5, 3)))
    axes.plot(said, came, color=TEAL, linewidth=1.6)
    axes.scatter(said, came, s=12 + 70 * np.sqrt(count / count.max()), color=TEAL, zorder=3)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("risk", color=GREY, fontsize=8)
    axes.text(
        0.03, 0.93, f"calibration error {results['ece']:.3f}\nBrier score {results['brier']:.3f}",
        color=GREY, fontsize=8, va="top", transform=axes.transAxes,
    )  # fmt: skip


def _draw_cost(
    axes: Axes, critic: RiskCritic, scored: Scored, config: RiskConfig, results: dict[str, Any]
) -> None:
    _heading(axes, "violations announced, by false alarms")
    rates, early, any_time = [], [], []
    for on in np.linspace(0.02, 0.98, _SWEEP):
        rates.append(false_alarms(scored.safe, scored.dt, on, config.hysteresis * on)[0])
        lead_time = violation_lead_times(scored, on, config.hysteresis * on)
        any_time.append(np.mean(~np.isnan(lead_time)))
        early.append(np.mean(lead_time >= config.warning_time))
    first = int(np.argmax(rates))  # below that threshold the alarm hardly ever ends
    axes.plot(rates[first:], any_time[first:], color=BLUE, linewidth=1.6)
    axes.plot(rates[first:], early[first:], color=AMBER, linewidth=1.6)
    at = results["false_alarms_per_s"]
    axes.scatter([at], [results["announced"]], s=42, color=BLUE, zorder=4, clip_on=False)
    axes.scatter([at], [results["announced_in_time"]], s=42, color=AMBER, zorder=4, clip_on=False)
    axes.axvline(config.false_alarms, color=GREY, linewidth=1, linestyle=(0, (1, 3)))
    right = max(4.0 * config.false_alarms, 2.0 * at)
    axes.set(xlim=(0, right), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(lambda y, _: _percent(y))
    axes.set_xlabel("false alarms [1/s]", color=GREY, fontsize=8)
    for y, colour, text in (
        (0.12, BLUE, "at all"),
        (0.05, AMBER, f"{1e3 * config.warning_time:.0f} ms before"),
    ):
        axes.text(0.97, y, text, color=colour, fontsize=8, ha="right", transform=axes.transAxes)


def _draw_course(axes: Axes, critic: RiskCritic, scored: Scored) -> None:
    _heading(axes, "risk before a violation")
    length = round(BEFORE / scored.dt)
    courses = []
    for episode, risk in zip(scored.episodes, scored.risks, strict=True):
        if episode.violates:
            start = int(episode.violation.argmax())
            course = np.full(length, np.nan)
            part = risk[max(0, start - length) : start]
            course[length - len(part) :] = part
            courses.append(course)
    kept = np.array(courses)
    time = 1e3 * scored.dt * np.arange(-length, 0)
    use = ~np.isnan(kept).all(0)
    low, middle, high = np.nanquantile(kept[:, use], [0.25, 0.5, 0.75], axis=0)
    axes.fill_between(time[use], low, high, color=TEAL, alpha=0.15, linewidth=0)
    axes.plot(time[use], middle, color=TEAL, linewidth=2)
    usual = float(np.quantile(np.concatenate(scored.safe), 0.99))
    for level, colour, text, above in (
        (critic.threshold_on, INK, f"alarm on {critic.threshold_on:.2f}", True),
        (critic.threshold_off, GREY, f"off {critic.threshold_off:.2f}", False),
        (usual, FAINT, "99 % of safe ticks are below", True),
    ):
        axes.axhline(level, color=colour, linewidth=1, linestyle=(0, (5, 3)))
        axes.text(
            time[0], level + (0.01 if above else -0.015), text, fontsize=8,
            color=GREY if colour == FAINT else colour, va="bottom" if above else "top",
        )  # fmt: skip
    axes.set(xlim=(time[0], 0), ylim=(0, 1.02))
    axes.set_xlabel("before the limit is passed [ms]; median and quartiles", color=GREY, fontsize=8)


def _heading(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK, weight="bold", pad=8)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
