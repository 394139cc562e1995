"""Gymnasium's classics from scratch: is the plain algorithm right?

Each cell is one run of a shipped config through the same session as a robot's task, inline on one
core: no demonstrations, preset `rlpd`, then 20 evaluation episodes of the averaged actor without
noise. It appends one line to benchmarks/results/classics.jsonl. The last line printed is a JSON
object: `rows`, one per cell with its mean return and whether that solves the task; `mean`, over the
seeds of each task; `seeds`, how many there are. A suite runs what is missing.

    python benchmarks/classics.py --suite --jobs 2
    python benchmarks/classics.py --task pendulum --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kit.cells import RESULTS as FOLDER
from benchmarks.kit.cells import append, read, run_commands, stamped

RESULTS = FOLDER / "classics.jsonl"
EPISODES = 20
SEEDS = range(5)
BUDGET = {"pendulum": 5_000, "double_pendulum": 20_000}  # [steps]
SOLVED = {"pendulum": -200.0, "double_pendulum": 9_000.0}  # [reward], mean return


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Learn gymnasium's classics from scratch.")
    parser.add_argument("--task", choices=sorted(BUDGET))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suite", action="store_true", help="run all that have no result yet")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, a core each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options, extra = parser.parse_known_args()
    failed = 0
    if options.suite:
        failed = run_commands(missing(options.results), options.jobs)
    elif options.task:
        append(options.results, stamped(run_cell(options.task, options.seed, extra)))
    print(json.dumps(summarise(list(read(options.results)))))
    return 1 if failed else 0


def missing(results: Path) -> list[list[str]]:
    """Return the interpreter's arguments of each cell that has no result yet."""
    done = {(row["task"], row["seed"]) for row in read(results)}
    words = [str(Path(__file__).resolve()), "--results", str(results)]
    return [
        [*words, "--task", task, "--seed", str(seed)]
        for task in BUDGET
        for seed in SEEDS
        if (task, seed) not in done
    ]


def run_cell(task: str, seed: int, extra: list[str]) -> dict[str, Any]:
    """Train and evaluate one cell; return its row."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from actor.cli.run_folders import create_configured_run
    from actor.loop.evaluate import evaluate, policies_to_evaluate
    from actor.loop.run_inline import inline_session

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="handrail-classic-") as scratch:
        overrides = ["--run.seed", str(seed), *extra]
        run, config = create_configured_run(task, overrides, Path(scratch) / "run")
        with inline_session(run, config) as (session, trainer):
            session.wait_for_weights()
            session.train(config.run.steps)
            session.link.wait_for_updates(session.policy, session.env_steps)
            trained = time.monotonic() - began
            drivers = policies_to_evaluate(session.task, session.policy, seed)
            results = evaluate(session.env, drivers, range(EPISODES), seed)
            steps, updates = session.env_steps, trainer.updates
    returns = {name: [r.reward_sum for r in rs] for name, rs in results.items()}
    means = {name: sum(values) / len(values) for name, values in returns.items()}
    return {
        "task": task,
        "env": config.task.name.partition(":")[2],
        "preset": config.learner.preset,
        "seed": seed,
        "steps": steps,
        "updates": updates,
        "episodes": EPISODES,
        "return": means["policy"],
        "return_min": min(returns["policy"]),
        "return_random": means["trivial/random"],
        "return_still": means["trivial/still"],
        "solved": means["policy"] >= SOLVED[task] and steps <= BUDGET[task],
        "train_s": round(trained, 1),
        "wall_s": round(time.monotonic() - began, 1),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all rows, and for each task the mean over its seeds and their number."""
    tasks = [task for task in BUDGET if any(row["task"] == task for row in rows)]
    returns = {task: [row["return"] for row in rows if row["task"] == task] for task in tasks}
    return {
        "rows": rows,
        "mean": {task: sum(values) / len(values) for task, values in returns.items()},
        "seeds": {task: len(values) for task, values in returns.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
