"""The page of the maze benchmark: tables from its results, in the words of maze_page.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "maze_page.md"


def write(path: Path, summary: dict[str, Any]) -> None:
    """Write the page of a summary that `maze.summarise` made."""
    named = {tuple(key.split("/")): value for key, value in summary.items()}
    rows = [(name, layout, value) for (name, layout), value in named.items()]
    path.write_text(
        PAGE.read_text(encoding="utf-8").format(
            trained=_outcomes([(n, v) for n, layout, v in rows if layout == "1"]),
            learning=_learning([(n, v) for n, layout, v in rows if layout == "1"]),
            held_out=_outcomes([(f"{n}, {la}", v) for n, la, v in rows if la != "1"]),
        ),
        encoding="utf-8",
    )


def _outcomes(rows: list[tuple[str, dict[str, Any]]]) -> str:
    head = ("", "episodes", "success", "path", "force", "energy", "gated", "reflex", "stopped",
            "largest force", "largest energy")  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for name, v in rows:
        low, high = v["success_range"]
        lines.append(
            _line(
                [
                    name,
                    v["episodes"],
                    f"{v['success']:.2f} ({low:.2f}-{high:.2f})",
                    f"{100 * v['completed']:.0f} %",
                    v["force_violations"],
                    v["energy_violations"],
                    f"{100 * v['gated']:.1f} %",
                    f"{100 * v['reflex']:.1f} %",
                    v["stopped"],
                    f"{v['force_max']:.0f} N",
                    f"{v['energy_max']:.2f}",
                ]
            )
        )
    return "\n".join(lines)


def _learning(rows: list[tuple[str, dict[str, Any]]]) -> str:
    head = ("", "episodes", "force", "energy")
    lines = [_line(head), _line(["---"] * len(head))]
    for name, v in rows:
        if name == "filter":
            continue
        counts = (v["train_episodes"], v["train_force_violations"], v["train_energy_violations"])
        lines.append(_line([name, *counts]))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
