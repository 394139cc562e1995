"""Run a committed cell of the benchmark again, at its commit, and hold it against its line.

The cell's line in benchmarks/results/learn.jsonl names the commit; that is checked out beside this
working tree and runs with this interpreter. The cell finds the lines that it found the first time,
those of its task, seed and commit that were there when it began. The last line printed is a JSON
object: whether all but the times is the same, and what isn't.

    python benchmarks/reproduce.py --task peg_far --preset rlpd --seed 4
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.kit.cells import ROOT, append, read
from benchmarks.learn import RESULTS, Cell, cell_of, command

TIMES = ("time", "wall_s")  # [-], what no second run has in common with the first


def main() -> int:
    """Run the cell that the command line names; return 0 if it came out the same."""
    parser = argparse.ArgumentParser(description="Run a committed cell again and compare.")
    parser.add_argument("--task", required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--operator", action="store_true", help="with the scripted operator")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    cell = Cell(options.task, options.preset, options.operator, options.seed, options.steps)
    rows = list(read(options.results))
    there = next((row for row in rows if cell_of(row) == cell), None)
    if there is None or there["commit"].endswith("+"):
        why = "no line" if there is None else f"a line of changed code, {there['commit']},"
        parser.error(f"{options.results} has {why} for {cell}; nothing can be held against it")
    here = run_again(cell, there, found(there, rows))
    differ = differences(there, here)
    print(json.dumps({"same": not differ, "commit": there["commit"], "differ": differ}))
    return 1 if differ else 0


def found(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a cell's task, seed and commit that were there when it began.

    Args:
        row: The cell's line; its time is that of its end.
        rows: All lines.
    """
    keys = ("task", "seed", "commit")
    began = datetime.fromisoformat(row["time"]) - timedelta(seconds=row["wall_s"])
    return [
        other
        for other in rows
        if all(other[key] == row[key] for key in keys)
        and datetime.fromisoformat(other["time"]) < began
    ]


def run_again(cell: Cell, there: dict[str, Any], siblings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the line that the cell comes to at its commit.

    Args:
        cell: To run.
        there: The line that it has.
        siblings: Lines that it finds.

    Raises:
        CalledProcessError: The commit isn't in this repository, or the cell failed.
    """
    with tempfile.TemporaryDirectory(prefix="handrail-again-") as scratch:
        tree, results = Path(scratch) / "tree", Path(scratch) / "learn.jsonl"
        for row in siblings:
            append(results, row)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", tree, there["commit"]], check=True)
        try:
            script, *words = command(cell, results)
            own = tree / Path(script).relative_to(ROOT)
            subprocess.run(
                [sys.executable, own, *words, *there.get("overrides", [])],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
        return list(read(results))[-1]


def differences(there: dict[str, Any], here: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what differs between two lines of a cell but the times, as [there, here]."""
    keys = [key for key in {**there, **here} if key not in TIMES]
    return {k: [there.get(k), here.get(k)] for k in keys if there.get(k) != here.get(k)}


if __name__ == "__main__":
    sys.exit(main())
