"""Draw a recording: who had the arm, where it went, what it felt, what it did, and how punctually.

One column of panels over one axis of time, so that the eye can go straight down from an event.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from controllers.robot import Fault, Mode
from handrail.errors import StorageError
from robot_env.recorder.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, FAINT = "#1f2933", "#7b8794", "#cbd2d9"
TEAL, AMBER, BLUE, VIOLET = "#0f766e", "#c2570c", "#2563a8", "#6d4aa8"
JOINTS = ("#0f766e", "#2c8f7f", "#2563a8", "#5b8ac6", "#6d4aa8", "#c2570c", "#7b8794")
MODES = {
    Mode.IDLE: ("idle", "#f4f6f8"),
    Mode.HOLDING: ("holding", "#dfe6ec"),
    Mode.FOLLOWING: ("following", "#bfe3dd"),
    Mode.HUMAN: ("human", "#d9cdf0"),
    Mode.SOFT_STOP: ("soft stop", "#f6d5bd"),
    Mode.FAULT: ("fault", "#e9a3a0"),
    Mode.USER_STOP: ("user stop", "#e9a3a0"),
    Mode.GUIDING: ("guiding", "#d9cdf0"),
}
_COLUMNS = 3000  # points of a line; each stands for the lowest and the highest of its ticks


def write_plot(recording: Recording, out: Path, last: float | None = None) -> None:
    """Write the picture of a recording, whole or not at all.

    Args:
        recording: What to draw.
        out: PNG file.
        last: Draw only so many seconds at the end; None for all.

    Raises:
        StorageError: There is no tick to draw.
        OSError: The picture can't be written.
    """
    figure = draw(recording, last)
    temporary = out.with_name(f".{out.name}.tmp.png")
    try:
        figure.savefig(temporary, dpi=150)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def draw(recording: Recording, last: float | None = None) -> Figure:
    """Return the figure of a recording; arguments as `write_plot`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(recording) < 2:
        raise StorageError(f"{recording.path} has {len(recording)} ticks: nothing to draw")
    time = _time(recording)
    keep = time >= -(last or np.inf)
    x = time[keep]
    with rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(11, 10), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            7, 1, height_ratios=[0.3, 1.35, 1, 1, 1.25, 0.8, 0.9], left=0.075, right=0.9,
            top=0.885, bottom=0.05, hspace=0.55,
        )  # fmt: skip
        panels = [figure.add_subplot(grid[i]) for i in range(7)]
        for axes in panels:
            _style(axes, x)
        _title(figure, recording, x)
        _modes(panels[0], x, recording["mode"][keep])
        _pose(panels[1], x, recording["pose"][keep], recording["target"][keep])
        _heading(panels[2], "distance of the tool from its target", "mm")
        gap = recording["target"][keep][:, :3] - recording["pose"][keep][:, :3]
        for axis, colour in enumerate((TEAL, BLUE, AMBER)):
            _line(panels[2], x, 1e3 * gap[:, axis], colour, "xyz"[axis])
        _heading(panels[3], "force on the tool, base frame", "N")
        for axis, colour in enumerate((TEAL, BLUE, AMBER)):
            _line(panels[3], x, recording["wrench"][keep][:, axis], colour, "xyz"[axis])
        _heading(panels[4], "torques sent, without gravity", "N m")
        for joint, colour in enumerate(JOINTS):
            _line(panels[4], x, recording["tick.torque"][keep][:, joint], colour, f"{joint + 1}")
        _heading(panels[5], "energy tank, and scale of the stiffness", "J, -")
        _line(panels[5], x, recording["tank"][keep], VIOLET, "tank")
        _line(panels[5], x, recording["stiffness_scale"][keep], GREY, "stiffness scale")
        _bottom(panels[5])
        if recording.about["realtime"]:
            _heading(panels[6], "time of a tick: from waking up to the torque sent", "µs")
            took = 1e6 * (recording.wall - recording.wake)[keep]
        else:
            _heading(panels[6], "time between ticks on the clock, 0.1 ms at most", "µs")
            took = 1e6 * np.clip(np.diff(recording.wall, prepend=np.nan), 0.0, 1e-4)[keep]
        _line(panels[6], x, took, INK, "tick")
        _bottom(panels[6])
        for axes in panels[:-1]:
            axes.tick_params(labelbottom=False)
        panels[-1].set_xlabel("seconds before the end", color=GREY, fontsize=8)
        _events(panels, recording, time, x)
        return figure


def _time(recording: Recording) -> np.ndarray:
    """Return when each tick ran before the newest one, (n,) [s], 0 or less."""
    if recording.about["realtime"]:
        return recording.wall - recording.wall[-1]
    return float(recording.about["dt"]) * np.arange(1 - len(recording), 1)


def _title(figure: Figure, recording: Recording, x: np.ndarray) -> None:
    import datetime

    end = 1e-9 * recording.origin + recording.wall[-1]
    when = datetime.datetime.fromtimestamp(end).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    task = recording.about.get("task", "")
    figure.text(0.075, 0.957, f"{task} · {recording.why.lower()}", fontsize=17, weight="bold")
    mode, fault = Mode(int(recording["mode"][-1])), Fault(int(recording["fault"][-1]))
    late = int(recording["late"][-1] - recording["late"][0])
    parts = [
        f"{x[-1] - x[0]:.1f} s until {when}",
        f"ends in {MODES[mode][0]}" + (f", fault {fault.name}" if fault else ""),
        f"{late} late ticks" if recording.about["realtime"] else "lockstep",
        f"chain {recording.about['code'][:8]}",
    ]
    figure.text(0.075, 0.932, "   ·   ".join(parts), fontsize=10, color=GREY)
    figure.text(0.9, 0.957, "Handrail", fontsize=10, color=FAINT, ha="right", weight="bold")


def _style(axes: Axes, x: np.ndarray) -> None:
    axes.set_xlim(x[0], x[-1])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelcolor=GREY, labelsize=8)
    axes.grid(axis="y", color=FAINT, linewidth=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])


def _heading(axes: Axes, text: str, unit: str = "") -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK, weight="bold", pad=5)
    axes.text(
        -0.012, 1.06, unit, transform=axes.transAxes, ha="right", va="bottom", color=GREY,
        fontsize=8,
    )  # fmt: skip


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    x, y = envelope(x, y)
    axes.plot(x, y, color=colour, linewidth=1.1, solid_joinstyle="round", label=label)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8,
        labelcolor=GREY, handlelength=1.1, labelspacing=0.25,
    )  # fmt: skip


def envelope(x: np.ndarray, y: np.ndarray, columns: int = _COLUMNS) -> tuple[np.ndarray, ...]:
    """Return a line of few points that still shows every spike: each column's low and high."""
    y = np.where(np.isfinite(y), y, np.nan)
    each = len(x) // columns
    if each < 2:
        return x, y
    n = len(x) // each * each
    blocks = np.where(np.isnan(y[:n]), 0.0, y[:n]).reshape(-1, each)
    both = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1).ravel()
    return np.repeat(x[:n:each], 2), both


def _bottom(axes: Axes) -> None:
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _modes(axes: Axes, x: np.ndarray, mode: np.ndarray) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_ylabel("mode", rotation=0, ha="right", va="center", weight="bold", labelpad=8)
    edges = [0, *(np.flatnonzero(np.diff(mode)) + 1).tolist(), len(mode) - 1]
    span = x[-1] - x[0]
    for begin, end in pairwise(edges):
        name, colour = MODES[Mode(int(mode[begin]))]
        axes.axvspan(x[begin], x[end], color=colour, linewidth=0)
        if x[end] - x[begin] > 0.011 * span * len(name):
            middle = 0.5 * (x[begin] + x[end])
            axes.text(middle, 0.45, name, ha="center", va="center", color=INK, fontsize=8)


def _pose(axes: Axes, x: np.ndarray, pose: np.ndarray, target: np.ndarray) -> None:
    _heading(axes, "tool, and its target dashed, from where the picture begins", "mm")
    for axis, colour in enumerate((TEAL, BLUE, AMBER)):
        origin = pose[0, axis]
        _line(axes, x, 1e3 * (pose[:, axis] - origin), colour, "xyz"[axis])
        thin, y = envelope(x, 1e3 * (target[:, axis] - origin))
        axes.plot(thin, y, color=colour, linewidth=0.9, linestyle=(0, (4, 2)), alpha=0.8)


def _events(panels: list[Axes], recording: Recording, time: np.ndarray, x: np.ndarray) -> None:
    shown = [e for e in recording.events if e.row < len(time) and time[e.row] >= x[0]]
    free = -np.inf
    for event in shown:
        at = time[event.row]
        bad = not event.what.startswith("episode")
        for axes in panels:
            axes.axvline(at, color=AMBER if bad else FAINT, linewidth=0.9, zorder=1)
        if at >= free and bad:
            panels[0].text(
                at, 1.08, event.what, color=AMBER, fontsize=7.5, va="bottom",
                ha="left" if at < 0.5 * (x[0] + x[-1]) else "right",
            )  # fmt: skip
            free = at + 0.2 * (x[-1] - x[0])
