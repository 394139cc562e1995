"""Learn one cell of the benchmark, or a suite of cells, and keep every result.

A cell runs the three roles inline on one core, from a fixed seed, with demonstrations that are the
same for every method of that seed. It appends one line to benchmarks/results/learn.jsonl and prints
the same JSON object last. Base, expert and trivial policies don't depend on the method: they are
evaluated once for each task, seed and commit, and their outcomes copied to its other cells. A suite
runs its missing cells, two at a time, a core each; interrupted, it goes on where it stopped.

    python benchmarks/learn.py --task peg --preset resfit --seed 0
    python benchmarks/learn.py --suite sim --jobs 2
    python benchmarks/learn.py --suite metaworld --jobs 2   # needs `make install-bench`
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.kit.cells import RESULTS as FOLDER
from benchmarks.kit.cells import append, commit, read, run_commands, stamped

RESULTS = FOLDER / "learn.jsonl"
GRID = 10  # evaluations during training
GRID_EPISODES = 20
FINAL_EPISODES = 100
WINDOW = 3  # consecutive evaluations whose mean must reach 80 %


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark."""

    task: str
    preset: str
    operator: bool
    seed: int
    steps: int


PRESETS = ("rlpd", "resfit", "ibrl", "expo", "residual_hil")
ORDERED = ("rlpd", "residual_hil")  # these are said to be in order, which wants five seeds


def planned(
    task: str, seeds: Sequence[int], presets: Sequence[str], operator: bool = False
) -> list[Cell]:
    """Return the cells of 20,000 steps of a task, with the scripted operator if asked for."""
    return [Cell(task, preset, operator, seed, 20_000) for seed in seeds for preset in presets]


SUITES: dict[str, list[Cell]] = {
    "sim": [
        *planned("assemble", range(3), PRESETS),
        *planned("peg_far", range(3), PRESETS),
        *planned("assemble", range(3), ORDERED, operator=True),
        *planned("peg_far", range(3), ORDERED, operator=True),
        *planned("assemble", (3, 4), ORDERED),
        *planned("peg_far", (3, 4), ORDERED),
        *planned("assemble", (3, 4), ("residual_hil",), operator=True),
        *planned("peg_far", (3, 4), ("residual_hil",), operator=True),
        *planned("peg", range(5), ORDERED),
    ],
    "metaworld": [
        *planned("metaworld_peg", range(3), PRESETS),
        *planned("metaworld_peg", (3, 4), ORDERED),
    ],
}


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Learn a cell, or a suite of cells.")
    parser.add_argument("--task", default="peg")
    parser.add_argument("--preset", default="resfit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operator", action="store_true", help="with the scripted operator")
    parser.add_argument("--steps", type=int, default=10_000, help="training steps")
    parser.add_argument("--suite", choices=sorted(SUITES), help="run the suite's missing cells")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, a core each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options, extra = parser.parse_known_args()
    if options.suite:
        return run_suite(SUITES[options.suite], options.jobs, options.results)
    cell = Cell(options.task, options.preset, options.operator, options.seed, options.steps)
    known = sibling(cell, options.results, commit(), extra)
    row = stamped({**run_cell(cell, extra, known), "overrides": extra})
    append(options.results, row)
    print(json.dumps(row))
    return 0


def run_suite(cells: list[Cell], jobs: int, results: Path) -> int:
    """Run the cells that have no result yet, `jobs` at a time; return the exit code."""
    done = {cell_of(row) for row in read(results)}
    missing = [cell for cell in cells if cell not in done]
    failed = run_commands([command(cell, results) for cell in missing], jobs)
    rows = len(list(read(results)))
    print(json.dumps({"cells": len(cells), "results": rows, "failed": failed}))
    return 1 if failed else 0


def cell_of(row: dict[str, Any]) -> Cell:
    """Return the cell that a line is of."""
    return Cell(**{key: row[key] for key in Cell.__annotations__})


def command(cell: Cell, results: Path) -> list[str]:
    """Return the interpreter's arguments that run a cell."""
    words = [str(Path(__file__).resolve()), "--task", cell.task, "--preset", cell.preset]
    words += ["--seed", str(cell.seed), "--steps", str(cell.steps), "--results", str(results)]
    return words + (["--operator"] if cell.operator else [])


def sibling(cell: Cell, results: Path, at: str, extra: list[str]) -> dict[str, Any] | None:
    """Return a row of the same task, seed and commit; None if there is none or code was changed.

    Overrides must be the same, too: they may change the task, its demonstrations or the base.

    Args:
        cell: To run.
        results: File of results.
        at: The commit, as `cells.commit` says it.
        extra: Overrides of the config.
    """
    same = {"task": cell.task, "seed": cell.seed, "commit": at, "overrides": extra}
    rows = (
        r for r in read(results) if all({"overrides": [], **r}[key] == same[key] for key in same)
    )
    return None if at.endswith("+") else next(rows, None)


def run_cell(
    cell: Cell, extra: list[str] | None = None, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train and evaluate one cell; return its row.

    Args:
        cell: To run.
        extra: Overrides of the config.
        known: Row of another method from which all but the policy's own outcomes are taken.
    """
    from handrail.caches import use_caches

    use_caches()  # a cell's compiled code is the next one's, too
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import numpy as np

    from actor.cli.run_folders import create_configured_run
    from actor.loop.evaluate import evaluate, policies_to_evaluate, with_held_out
    from actor.loop.policies import expert_policy
    from actor.loop.run_inline import inline_session
    from handrail.run_folder import read_metrics

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="handrail-cell-") as scratch:
        overrides = ["--learner.preset", cell.preset, "--run.seed", str(cell.seed)]
        overrides += ["--run.demo-seed", str(cell.seed), "--run.steps", str(cell.steps)]
        overrides += extra or []
        overrides += ["--operator.enabled" if cell.operator else "--operator.no-enabled"]
        run, config = create_configured_run(cell.task, overrides, Path(scratch) / "run")
        curve: list[float] = []
        grid: list[dict[str, str]] = []
        with inline_session(run, config) as (session, trainer):
            session.record(config.run.demos)
            session.wait_for_weights()
            policy = session.policy
            drivers = policies_to_evaluate(session.task, policy, cell.seed)
            if known is None:
                drivers.setdefault("base", base_of(run, config, session, cell.seed))
                drivers["expert"] = expert_policy(
                    session.task, np.random.default_rng(cell.seed), noisy=False
                )
            else:
                drivers = {"policy": drivers["policy"]}
            watched = {name: drivers[name] for name in ("policy", "base") if name in drivers}
            for point in range(1, GRID + 1):
                session.train(cell.steps * point // GRID)
                session.link.wait_for_updates(policy, session.env_steps)
                starts = range(1000 * point, 1000 * point + GRID_EPISODES)
                results = evaluate(session.env, watched, starts, cell.seed)
                grid.append({name: outcomes(results[name]) for name in watched})
                curve.append(share(grid[-1]["policy"]))
                took = time.monotonic() - began
                print(f"{session.env_steps} steps: {curve[-1]:.2f} ({took:.0f} s)", file=sys.stderr)
            final = {
                prefix + name: outcomes(results)
                for prefix, env in with_held_out(session.env).items()
                for name, results in evaluate(
                    env, drivers, range(FINAL_EPISODES), cell.seed
                ).items()
            }
            if known is not None:
                grid = [{**there, **here} for there, here in zip(known["grid"], grid, strict=True)]
                final = {**known["outcomes"], **final}
            budget = getattr(session.intervener, "budget_left", None)
        episodes = [
            row
            for row in read_metrics(run.metrics)
            if row["kind"] == "episode" and row["phase"] != "record"
        ]
    shares = {name: share(digits) for name, digits in final.items()}
    trivial = {name: s for name, s in shares.items() if "trivial/" in name}
    tail = episodes[-20:]
    return {
        **asdict(cell),
        "success": shares["policy"],
        "base_success": shares.get("base"),
        **held_out(shares),
        "steps_to_80": steps_to(0.8, curve, cell.steps),
        "interventions": sum(e["takeovers"] for e in episodes),
        "human_steps": sum(e["human_steps"] for e in episodes),
        "budget_left": budget,
        "last_intervention_rate": sum(e["human_steps"] for e in tail)
        / max(1, sum(e["length"] for e in tail)),
        "failures": sum(e["autonomous"] and not e["success"] for e in episodes),
        "auc": sum(curve) / len(curve),
        "trivial_success": max(trivial.values()),
        "eval_episodes": len(final["policy"]),
        "wall_s": round(time.monotonic() - began, 1),
        "curve": curve,
        "grid": grid,
        "outcomes": final,
        "expert_success": shares["expert"],
        "episodes": len(episodes),
        "updates": trainer.updates,
        "trivial": trivial,
    }


def base_of(run: Any, config: Any, session: Any, seed: int) -> Any:
    """Train the base on the same demonstrations for a preset without one; return its driver."""
    from actor.loop.policies import LearnedPolicy
    from learner.policy.policy import Policy
    from learner.presets import preset
    from learner.store.store import Store
    from learner.trainer import Trainer

    learner = preset("resfit", total_steps=config.learner.total_steps)
    trainer = Trainer(learner, config.base, session.task.spec, seed)
    session.link.flush()
    store = Store(run.store, session.task.spec, readonly=True)
    for _, row in store.rows(after=0):
        if row.source == 0:
            trainer.add(row)
    store.close()
    trainer.fit_base()
    policy = Policy(session.task.spec, learner, config.base, seed)
    policy.load(*trainer.packet())
    return LearnedPolicy(policy, "base")


def outcomes(results: list[Any]) -> str:
    """Return a digit per episode in the order of the starts, 1 for success."""
    return "".join("01"[r.success] for r in results)


def share(digits: str) -> float:
    """Return the share of successes among outcomes."""
    return digits.count("1") / len(digits)


def held_out(shares: dict[str, float]) -> dict[str, float]:
    """Return the shares on goals that training never showed; empty where there are none."""
    names = {"success": "held_out/policy", "base_success": "held_out/base"}
    return {f"held_out_{key}": shares[name] for key, name in names.items() if name in shares}


def steps_to(level: float, curve: list[float], steps: int) -> int | None:
    """Return the training steps at which the mean of three consecutive evaluations is `level`.

    Args:
        level: Success to reach, in [0, 1].
        curve: Success at each point of the evaluation grid.
        steps: Training steps at the last point.

    Returns:
        Steps at the first evaluation of the three, None if never.
    """
    for i in range(len(curve) - WINDOW + 1):
        if sum(curve[i : i + WINDOW]) / WINDOW >= level - 1e-9:
            return steps * (i + 1) // len(curve)
    return None


if __name__ == "__main__":
    sys.exit(main())
