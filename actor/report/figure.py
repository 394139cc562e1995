"""Draw a run: report.png, success, interventions, return and Q over training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actor.report.axes import (
    AMBER,
    BLUE,
    FAINT,
    GREY,
    INK,
    TEAL,
    VIOLET,
    curve,
    ensure_ylim,
    heading,
    percent,
    percent_axis,
    shade_phases,
    style,
)
from actor.report.learner_panels import PANELS, draw_networks, series
from actor.report.live_state import WINDOW
from actor.report.summary import (
    Row,
    evaluations,
    is_judged,
    mean_returns,
    read_rows,
    summarise,
    training_episodes,
    wilson,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 4  # [episodes], too few for a mean worth drawing


def write_report(run_folder: Path) -> dict[str, Any]:
    """Write report.png into a run folder and return the run's summary.

    Args:
        run_folder: A run folder, finished or not.

    Raises:
        RunFolderError: The folder has no metrics.
        OSError: The picture can't be written.
    """
    folder = Path(run_folder)
    rows, summary = read_rows(folder), summarise(folder)
    figure = draw(rows, summary)
    temporary = folder / ".report.tmp.png"
    try:
        figure.savefig(temporary, dpi=160)
        temporary.replace(folder / "report.png")
    finally:
        temporary.unlink(missing_ok=True)
    return summary


def draw(rows: list[Row], summary: dict[str, Any]) -> Figure:
    """Return the figure of a run.

    Args:
        rows: All rows of metrics, oldest first.
        summary: What `summarise` makes of them.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(10, 8.6), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            3, 12, height_ratios=[1.75, 1, 1], left=0.06, right=0.86, top=0.835, bottom=0.065,
            hspace=0.42, wspace=1.7,
        )  # fmt: skip
        success = figure.add_subplot(grid[0, :])
        panels = [figure.add_subplot(grid[1, 4 * i : 4 * i + 4]) for i in range(3)]
        networks = [figure.add_subplot(grid[2, 3 * i : 3 * i + 3]) for i in range(PANELS)]
        _title(figure, summary)
        episodes = training_episodes(rows)
        end = max(1, summary["env_steps"])
        for axes in (success, *panels, *networks):
            style(axes, end, 5.5 if axes is success else 2.6)
            shade_phases(axes, rows, end, named=axes is success)
        if is_judged(rows):
            _success(success, episodes, evaluations(rows), end)
        else:
            _evaluated_returns(success, episodes, mean_returns(rows), end)
        curve(panels[0], "interventions, share of steps", AMBER, *_interventions(episodes))
        curve(panels[1], "return", BLUE, *_returns(episodes))
        curve(panels[2], "Q of the acting policy", VIOLET, *series(rows, "q"))
        draw_networks(networks, rows, summary["refused"])
        figure.text(0.46, 0.012, "training steps", color=GREY, fontsize=8, ha="center")
        ensure_ylim(panels[1], 0.0, 1.0)
        panels[0].set_ylim(0, max(0.1, panels[0].get_ylim()[1]))
        panels[0].yaxis.set_major_formatter(percent_axis())
        panels[0].text(
            0.98, 0.92, f"{summary['interventions']} take-overs in all", ha="right", va="top",
            transform=panels[0].transAxes, color=GREY, fontsize=8,
        )  # fmt: skip
        return figure


def moving(values: Sequence[float], window: int = WINDOW) -> np.ndarray:
    """Return the mean of each value and the up to window - 1 before it, shape (N,)."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - window)
    return (sums[stop] - sums[start]) / (stop - start)


def _title(figure: Figure, summary: dict[str, Any]) -> None:
    seed = "" if summary["seed"] is None else f" · seed {summary['seed']}"
    figure.text(
        0.06, 0.945, f"{summary['task']} · {summary['preset']}{seed}", fontsize=17, weight="bold"
    )
    minutes = summary["train_s"] / 60
    parts = [f"{summary['env_steps']:,} training steps in {minutes:.1f} min".replace(",", " ")]
    base = []
    if summary["base_success"] is not None:
        base = [f"base {percent(summary['base_success'])}"]
    if summary["success"] is None and summary["return"] is not None:
        mean = f"mean return {summary['return']:,.1f} over {summary['episodes']} episodes"
        parts = [mean, *parts]
    if summary["success"] is not None:
        parts = [
            f"{percent(summary['success'])} of {summary['episodes']} autonomous episodes "
            f"(95 % interval {percent(summary['success_low'])} to "
            f"{percent(summary['success_high'])})",
            *base,
            *parts,
        ]
    figure.text(0.06, 0.915, "   ·   ".join(parts), fontsize=10, color=GREY)
    figure.text(0.97, 0.945, "Handrail", fontsize=10, color=FAINT, ha="right", weight="bold")


def _success(
    axes: Axes, episodes: list[Row], results: dict[str, dict[int, bool]], end: float
) -> None:
    alone = [r for r in episodes if r.get("autonomous", True)]
    steps = [float(r["env_steps"]) for r in alone]
    outcomes = [float(bool(r.get("success"))) for r in alone]
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(percent_axis())
    if alone:
        marks = np.where(np.asarray(outcomes) > 0.5, 1.035, -0.035)
        axes.scatter(steps, marks, marker="|", s=16, linewidths=0.7, color=GREY, alpha=0.6)
        axes.plot(
            steps[FEW:], moving(outcomes)[FEW:], color=TEAL, linewidth=2.2, solid_capstyle="round"
        )
    heading(axes, f"success, last {WINDOW} autonomous training episodes", pad=17)
    for name, outcome, height in _labels(results):
        share = sum(outcome.values()) / len(outcome)
        main = name == "policy"
        colour = TEAL if main else INK if name == "base" else GREY
        if main:
            low, high = wilson(sum(outcome.values()), len(outcome))
            axes.errorbar(
                [end], [share], yerr=[[share - low], [high - share]], fmt="o", color=TEAL,
                markersize=6, capsize=3, linewidth=1.6, clip_on=False, zorder=5,
            )  # fmt: skip
        else:
            style = (0, (5, 3)) if name == "base" else (0, (1, 3))
            axes.axhline(share, color=colour, linewidth=1.1, linestyle=style)
        label = name.removeprefix("trivial/").replace("_", " ").replace("/", " ")
        axes.annotate(
            f"{label} {percent(share)}", (1.012, height), color=colour,
            xycoords=axes.get_yaxis_transform(), va="center", fontsize=8,
            weight="bold" if main else "normal", annotation_clip=False,
        )  # fmt: skip


def _evaluated_returns(
    axes: Axes, episodes: list[Row], means: dict[str, float], end: float
) -> None:
    """Draw returns large, where nothing says what success is."""
    returns = [float(r.get("return") or 0.0) for r in episodes]
    steps = [float(r["env_steps"]) for r in episodes]
    axes.scatter(steps, returns, s=8, color=GREY, alpha=0.5, linewidths=0)
    axes.plot(steps, moving(returns), color=TEAL, linewidth=2.2, solid_capstyle="round")
    heading(axes, f"return, last {WINDOW} training episodes", pad=17)
    for name, mean in means.items():
        main = name == "policy"
        if main:
            axes.plot([end], [mean], "o", color=TEAL, markersize=6, clip_on=False, zorder=5)
        else:
            axes.axhline(mean, color=GREY, linewidth=1.1, linestyle=(0, (1, 3)))
        label = name.removeprefix("trivial/").replace("_", " ").replace("/", " ")
        axes.annotate(
            f"{label} {mean:,.1f}", (1.012, mean), color=TEAL if main else GREY,
            xycoords=axes.get_yaxis_transform(), va="center", fontsize=8,
            weight="bold" if main else "normal", annotation_clip=False,
        )  # fmt: skip


def _labels(
    results: dict[str, dict[int, bool]], gap: float = 0.065
) -> list[tuple[str, dict[int, bool], float]]:
    """Return each policy with the height of its label; labels are pushed apart to be readable."""
    shown = {n: r for n, r in results.items() if not n.startswith("held_out/trivial/")}
    shares = sorted((sum(r.values()) / len(r), name) for name, r in shown.items())
    heights: list[float] = []
    for share, _ in shares:
        heights.append(max(share, heights[-1] + gap) if heights else share)
    excess = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for i in reversed(range(len(heights))):
        top = heights[i + 1] - gap if i + 1 < len(heights) else heights[i] - excess
        heights[i] = min(heights[i], top)
    return [(name, results[name], h) for (_, name), h in zip(shares, heights, strict=True)]


def _interventions(episodes: list[Row]) -> tuple[list[float], np.ndarray]:
    shares = [
        float(r.get("human_steps") or 0) / max(1.0, float(r.get("length") or 1)) for r in episodes
    ]
    return [float(r["env_steps"]) for r in episodes[FEW:]], moving(shares)[FEW:]


def _returns(episodes: list[Row]) -> tuple[list[float], np.ndarray]:
    returns = moving([float(r.get("return") or 0.0) for r in episodes])
    return [float(r["env_steps"]) for r in episodes[FEW:]], returns[FEW:]
