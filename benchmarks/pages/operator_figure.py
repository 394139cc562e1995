"""The figure of docs/learner.md: one operator on two dimensions of an action, and its three uses.

python benchmarks/pages/operator_figure.py docs/images/operator.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

INK, GREY, PALE = "#1c2733", "#8894a0", "#e9edf1"
BASE, EDIT, SAMPLE = "#1f7a8c", "#d1495b", "#e0a458"
PROPOSED = np.array([0.30, -0.15])  # the base's action
REACH = np.array([0.55, 0.55])  # gain times scale
EDITED = PROPOSED + REACH * np.array([0.72, 0.95])
GOOD = np.array([0.62, 0.62])  # where the critics' value is highest
NEAR_EDGE = np.array([0.72, -0.15])  # another proposal, whose edit leaves the box
BEYOND = NEAR_EDGE + REACH * np.array([0.96, 0.95])


def value(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a made-up value of actions: one hill, and a slope down to the lower left."""
    hill = np.exp(-((x - GOOD[0]) ** 2 + 1.6 * (y - GOOD[1]) ** 2) / 0.35)
    return hill + 0.12 * (x + y)


def box(axis: Any, title: str, caption: str) -> None:
    """Draw the box of actions that every panel shows, with a heading and a caption below."""
    axis.set(xlim=(-1.28, 1.28), ylim=(-1.28, 1.28), xticks=[], yticks=[], aspect="equal")
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.add_patch(rectangle((-1, -1), 2, 2, facecolor="white", edgecolor="none", zorder=0))
    axis.add_patch(rectangle((-1, -1), 2, 2, fill=False, edgecolor=INK, lw=1.4, zorder=3))
    for at in (-1, 1):
        axis.text(
            at, -1.09, f"{at:+d}".replace("-", "−"), ha="center", va="top", color=GREY, fontsize=8
        )
    axis.set_title(title, color=INK, fontsize=14, fontweight="bold", pad=-2)
    axis.text(0, -1.30, caption, ha="center", va="top", fontsize=9.5, color=INK, linespacing=1.4)


def rectangle(corner: Any, width: float, height: float, **style: Any) -> Any:
    """Return a patch."""
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)


def dot(axis: Any, at: np.ndarray, colour: str, label: str = "", way: Any = (8, -12)) -> None:
    """Draw an action."""
    axis.plot(*at, "o", color=colour, ms=9, mec="white", mew=1.2, zorder=5, clip_on=False)
    axis.annotate(label, at, way, textcoords="offset points", color=colour, fontsize=10.5, zorder=6)


def arrow(axis: Any, begin: np.ndarray, end: np.ndarray, colour: str) -> None:
    """Draw an arrow between two actions."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 6, "shrinkB": 5}
    axis.annotate("", end, begin, arrowprops=style, zorder=4, annotation_clip=False)


def panels(axes: Any) -> None:
    """Draw the four stages on the same base action."""
    propose, edit, select, clip = axes
    box(
        propose,
        "PROPOSE",
        "the base's next action, from\nits chunk — or zeros, to learn\nfrom scratch",
    )
    dot(propose, PROPOSED, BASE, "p, the base's", (-30, -20))
    dot(propose, np.zeros(2), GREY, "zeros", (-40, 6))

    box(
        edit,
        "EDIT",
        "a = p + g s tanh(u)\nreach s per dimension, gain g\ngrows from 0 after warm-up",
    )
    low = PROPOSED - REACH
    edit.add_patch(rectangle(low, *(2 * REACH), facecolor=EDIT, alpha=0.10, zorder=1))
    edit.add_patch(rectangle(low, *(2 * REACH), fill=False, edgecolor=EDIT, ls=(0, (4, 3)), lw=1.1))
    arrow(edit, PROPOSED, EDITED, EDIT)
    dot(edit, PROPOSED, BASE, "p", (-16, -6))
    dot(edit, EDITED, EDIT, "a", (-4, 9))
    edit.annotate("± g s", low, (3, 4), textcoords="offset points", color=EDIT, fontsize=9.5)

    box(
        select,
        "SELECT",
        "the edit — or a sample, or p itself:\nwhat the heads agree is best,\nby a margin over p",
    )
    grid = np.linspace(-1, 1, 200)
    x, y = np.meshgrid(grid, grid)
    levels = np.linspace(-0.2, 1.16, 10)
    shades = [str(round(1.0 - 0.05 * i, 2)) for i in range(len(levels) + 1)]
    select.contourf(x, y, value(x, y), levels, colors=shades, extend="both", zorder=1)
    angles = np.linspace(0.4, 6.0, 8)
    away = np.array([0.28, 0.42, 0.33, 0.24, 0.44, 0.31, 0.40, 0.30])
    samples = PROPOSED + away[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    select.plot(*samples.T, "o", color=SAMPLE, ms=6, mec="white", mew=0.8, zorder=4)
    select.text(-0.13, -0.78, "samples", color="#b5762a", fontsize=10, zorder=6)
    select.text(-0.93, -0.9, "Q", color=GREY, fontsize=11, style="italic", zorder=6)
    dot(select, PROPOSED, BASE, "p", (-4, 8))
    dot(select, EDITED, EDIT, "", (0, 0))
    select.plot(*EDITED, "o", ms=17, mfc="none", mec=EDIT, mew=1.8, zorder=6)
    select.annotate(
        "chosen", EDITED, (-61, -3), textcoords="offset points", color=EDIT, fontsize=10.5, zorder=6
    )

    box(
        clip,
        "clip",
        "to the box, before the critics\njudge a candidate; gradients\npass straight through",
    )
    edge = np.clip(BEYOND, -1, 1)
    corner = NEAR_EDGE - REACH
    clip.add_patch(rectangle(corner, *(2 * REACH), facecolor=EDIT, alpha=0.10, zorder=1))
    clip.add_patch(
        rectangle(corner, *(2 * REACH), fill=False, edgecolor=EDIT, ls=(0, (4, 3)), lw=1.1)
    )
    dot(clip, NEAR_EDGE, BASE, "p", (-16, -6))
    clip.plot(*BEYOND, "o", ms=9, mfc="white", mec=EDIT, mew=1.5, zorder=5, clip_on=False)
    arrow(clip, BEYOND, edge, EDIT)
    dot(clip, edge, EDIT, "executed", (-62, 9))


def uses(axis: Any) -> None:
    """Draw who runs through which stages, and what becomes of it."""
    axis.set(xlim=(0, 4), ylim=(0, 3))
    axis.axis("off")
    formula = "$y = R + d\\,\\min Q'(s_{t+k}, a)$"
    rows = [
        (2.5, "acting at $s_t$", BASE, "sent to the robot and stored as executed"),
        (1.5, "target at $s_{t+k}$", INK, formula + ", from the stored base context"),
        (0.5, "actor's loss at $s_t$", EDIT, "raises the mean of all heads"),
    ]  # fmt: skip
    for height, label, colour, end in rows:
        stages = (0, 1, 3) if "loss" in label else (0, 1, 2, 3)
        axis.plot([0.5, 3.5], [height, height], color=colour, lw=2.2, zorder=1)
        if "loss" in label:
            axis.plot([1.62, 3.38], [height, height], color="white", lw=3.2, zorder=2)
            axis.plot([1.62, 3.38], [height, height], color=colour, lw=1.4, ls=":", zorder=3)
        for stage in stages:
            axis.plot(stage + 0.5, height, "o", ms=10, color=colour, mec="white", mew=1.5, zorder=4)
        axis.text(-0.05, height, label, ha="right", va="center", color=colour, fontsize=11)
        axis.text(0.56, height - 0.34, end, va="center", color=INK, fontsize=9.2)
        axis.annotate(
            "",
            (3.95, height),
            (3.5, height),
            arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2},
        )


def draw(path: Path) -> None:
    """Write the figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK})
    figure = plt.figure(figsize=(12.4, 6.1), facecolor="white")
    left, width = 0.135, 0.208
    axes = [figure.add_axes((left + i * width, 0.455, width, 0.485)) for i in range(4)]
    for i in range(3):
        at = left + (i + 1) * width
        figure.text(at, 0.695, "→", ha="center", va="center", fontsize=20, color=GREY)
    panels(axes)
    uses(figure.add_axes((left, 0.02, 4 * width, 0.27)))
    figure.text(0.012, 0.70, "one operator", fontsize=12.5, fontweight="bold", va="bottom")
    figure.text(
        0.012,
        0.69,
        "here on two dimensions\nof an action",
        fontsize=9.2,
        va="top",
        color=GREY,
        linespacing=1.4,
    )
    figure.text(0.012, 0.300, "three uses", fontsize=12.5, fontweight="bold", va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/operator.png"))
