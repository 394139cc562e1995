"""What to make of a person's help: the published answers against each other, with the same help.

A cell is a run of `benchmarks/learn.py` with the scripted operator and one variant of the learner's
intervention keys; seeds share their demonstrations. It appends one line to
benchmarks/results/interventions.jsonl. A suite runs its missing cells, two at a time, a core each;
interrupted, it goes on where it stopped.

    python benchmarks/interventions.py --variant terminal --task assemble --seed 0
    python benchmarks/interventions.py --suite --jobs 2      # 5 seeds of each variant and task
    python benchmarks/interventions.py --table               # the page's tables, from the results
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.kit.cells import RESULTS as FOLDER
from benchmarks.kit.cells import append, commit, read, run_commands, stamped

RESULTS = FOLDER / "interventions.jsonl"
TASKS = ("peg_far", "assemble")
SEEDS = 5
STEPS = 20_000

THROUGH = ["--learner.at-takeover", "through"]
TERMINAL = ["--learner.at-takeover", "terminal"]
COST = ["--learner.takeover-cost", "0.5", "--learner.v-range", "-0.5", "1.0"]
ONE = ["--learner.takeover-cost", "1.0", "--learner.v-range", "-1.0", "1.0"]
ANCHOR = ["--learner.bc-weight", "0.1"]
IWR = [*ANCHOR, "--learner.intervention-share", "0.5"]

VARIANTS: dict[str, list[str] | None] = {
    "alone": None,  # no operator: what help is worth at all
    "through": THROUGH,  # as HIL-SERL does
    "cut": ["--learner.at-takeover", "cut"],
    "terminal": TERMINAL,
    "cost": [*TERMINAL, *COST],
    "rlif": [*THROUGH, "--learner.reward", "interventions", *ONE],
    "rlif_task": [*THROUGH, *ONE],  # its penalty on top of the task's reward
    "preweight": [
        *THROUGH,
        "--learner.pre-intervention-steps",
        "10",
        "--learner.pre-intervention-weight",
        "0.1",
    ],
    "anchor": [*THROUGH, *ANCHOR],
    "iwr": [*THROUGH, *IWR],
    "terminal_iwr": [*TERMINAL, *IWR],
}


@dataclass(frozen=True)
class Trial:
    """One cell of the comparison."""

    variant: str
    task: str
    preset: str
    seed: int
    steps: int


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Compare what to make of a person's help.")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="through")
    parser.add_argument("--task", default="peg_far", help="of a single cell")
    parser.add_argument("--preset", default="residual_hil")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--suite", action="store_true", help="run the missing cells")
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="of the suite")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the suite")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, a core each")
    parser.add_argument("--table", action="store_true", help="print tables of the results")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options, extra = parser.parse_known_args()
    if options.table:
        print(tables(list(read(options.results))))
        return 0
    if options.suite:
        trials = suite(options)
        return run_suite(trials, options.jobs, options.results, extra)
    trial = Trial(options.variant, options.task, options.preset, options.seed, options.steps)
    row = stamped(run_trial(trial, extra, options.results))
    append(options.results, row)
    print(json.dumps(row))
    return 0


def suite(options: argparse.Namespace) -> list[Trial]:
    """Return the cells in the order in which they run: a whole seed before the next."""
    return [
        Trial(variant, task, options.preset, seed, options.steps)
        for seed in range(options.seeds)
        for task in options.tasks
        for variant in options.variants
    ]


def run_suite(trials: list[Trial], jobs: int, results: Path, extra: list[str]) -> int:
    """Run the cells that have no result yet, `jobs` at a time; return the exit code."""
    done = {Trial(**{key: row[key] for key in Trial.__annotations__}) for row in read(results)}
    missing = [trial for trial in trials if trial not in done]
    failed = run_commands([[*command(trial, results), *extra] for trial in missing], jobs)
    print(json.dumps({"cells": len(trials), "ran": len(missing), "failed": failed}))
    return 1 if failed else 0


def command(trial: Trial, results: Path) -> list[str]:
    """Return the interpreter's arguments that run a cell."""
    words = [str(Path(__file__).resolve())]
    for key, value in asdict(trial).items():
        words += [f"--{key}", str(value)]
    return [*words, "--results", str(results)]


def run_trial(trial: Trial, extra: list[str], results: Path) -> dict[str, Any]:
    """Train and evaluate one cell; return its row."""
    from benchmarks.learn import Cell, run_cell, sibling

    overrides = VARIANTS[trial.variant]
    cell = Cell(trial.task, trial.preset, overrides is not None, trial.seed, trial.steps)
    known = sibling(cell, results, commit(), extra)  # a variant's keys change nothing but learning
    row = run_cell(cell, [*(overrides or []), *extra], known)
    return {**row, "variant": trial.variant, "overrides": extra}


def tables(rows: list[dict[str, Any]]) -> str:
    """Return a table for each task and length, a line for each variant."""
    groups = sorted({(row["task"], row["preset"], row["steps"]) for row in rows})
    parts = []
    for group in groups:
        found = [row for row in rows if (row["task"], row["preset"], row["steps"]) == group]
        task, preset, steps = group
        parts.append(f"### {task}, `{preset}`, {steps:,} steps\n\n{table(found)}")
    return "\n".join(parts)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of one task; `through` is what the others are compared with.

    The last column counts seeds, paired, in which the variant ended better and worse.
    """
    names = ["variant", "seeds", "success", "curve", "to 80 %", "failures alone", "take-overs"]
    names += ["human steps", "better / worse than `through`"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    plain = {row["seed"]: row["success"] for row in rows if row["variant"] == "through"}
    for variant in VARIANTS:
        mine = sorted((r for r in rows if r["variant"] == variant), key=lambda row: row["seed"])
        if not mine:
            continue
        pairs = [(r["success"], plain[r["seed"]]) for r in mine if r["seed"] in plain]
        better = sum(a > b for a, b in pairs)
        worse = sum(a < b for a, b in pairs)
        steps = [str(r["steps_to_80"] or "—") for r in mine]
        cells = [f"`{variant}`", str(len(mine)), spread(mine, "success"), spread(mine, "auc")]
        cells += [", ".join(steps), mean(mine, "failures"), mean(mine, "interventions")]
        cells += [mean(mine, "human_steps"), f"{better} / {worse}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(rows: list[dict[str, Any]], key: str) -> str:
    """Return mean and range over seeds of a share."""
    values = [row[key] for row in rows]
    return f"{sum(values) / len(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def mean(rows: list[dict[str, Any]], key: str) -> str:
    """Return the mean over seeds of a number."""
    return f"{sum(row[key] for row in rows) / len(rows):,.0f}"


if __name__ == "__main__":
    sys.exit(main())
