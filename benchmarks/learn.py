"""Learn one cell of the benchmark, or a suite of cells, and keep every result.

A cell runs the three roles inline on one core, from a fixed seed, with demonstrations that are the
same for every method of that seed. It appends one line to benchmarks/results/learn.jsonl and prints
the same JSON object last. A suite runs its missing cells, two at a time, a core each; interrupted,
it goes on where it stopped.

    python benchmarks/learn.py --task peg --preset resfit --seed 0
    python benchmarks/learn.py --suite sim --jobs 2
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "learn.jsonl"
GRID = 10  # evaluations during training
GRID_EPISODES = 20
FINAL_EPISODES = 50
WINDOW = 3  # consecutive evaluations whose mean must reach 80 %


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark."""

    task: str
    preset: str
    operator: bool
    seed: int
    steps: int


SUITES: dict[str, list[Cell]] = {
    "sim": [
        Cell(task, preset, operator, seed, 10_000)
        for task, operator in (
            ("peg", False),
            ("peg", True),
            ("assemble", False),
            ("pick", False),
        )
        for seed in range(3)
        for preset in ("resfit", "rlpd")
    ]
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
    row = {**run_cell(cell, extra), "commit": commit(), "time": time.strftime("%Y-%m-%dT%H:%M:%S")}
    append(options.results, row)
    print(json.dumps(row))
    return 0


def run_suite(cells: list[Cell], jobs: int, results: Path) -> int:
    """Run the cells that have no result yet, `jobs` at a time, each on a core of its own."""
    done = {Cell(**{key: row[key] for key in Cell.__annotations__}) for row in read(results)}
    missing = [cell for cell in cells if cell not in done]
    cores = sorted(os.sched_getaffinity(0))
    free = [cores[i % len(cores)] for i in range(jobs)]
    running: list[tuple[subprocess.Popen[bytes], Cell, int]] = []
    failed = 0
    while missing or running:
        while missing and free:
            cell, core = missing.pop(0), free.pop(0)
            running.append((start(cell, core, results), cell, core))
            print(f"started {cell} on core {core}, {len(missing)} to go", flush=True)
        time.sleep(1.0)
        for entry in [entry for entry in running if entry[0].poll() is not None]:
            running.remove(entry)
            free.append(entry[2])
            failed += entry[0].returncode != 0
            print(f"ended {entry[1]} with code {entry[0].returncode}", flush=True)
    rows = [row for row in read(results)]
    print(json.dumps({"cells": len(cells), "results": len(rows), "failed": failed}))
    return 1 if failed else 0


def start(cell: Cell, core: int, results: Path) -> subprocess.Popen[bytes]:
    """Start a cell in a process of its own, pinned to one core."""
    command = ["taskset", "-c", str(core), sys.executable, str(Path(__file__).resolve())]
    command += ["--task", cell.task, "--preset", cell.preset, "--seed", str(cell.seed)]
    command += ["--steps", str(cell.steps), "--results", str(results)]
    command += ["--operator"] if cell.operator else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def run_cell(cell: Cell, extra: list[str] | None = None) -> dict[str, Any]:
    """Train and evaluate one cell; return its row."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from actor.commands.folder import new
    from actor.evaluate import drivers_of, evaluate
    from actor.offline import offline_session
    from handrail.runs import read_metrics

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="handrail-cell-") as scratch:
        overrides = ["--learner.preset", cell.preset, "--run.seed", str(cell.seed)]
        overrides += ["--run.demo-seed", str(cell.seed), "--run.steps", str(cell.steps)]
        overrides += extra or []
        overrides += ["--operator.enabled" if cell.operator else "--operator.no-enabled"]
        run, config = new(cell.task, overrides, Path(scratch) / "run", "train")
        curve = []
        with offline_session(run, config) as (session, trainer):
            session.record(config.run.demos)
            session.wait_for_weights()
            policy = session.policy
            for point in range(1, GRID + 1):
                session.train(cell.steps * point // GRID)
                session.link.settle(policy, session.env_steps)
                drivers = {"policy": drivers_of(session.task, policy, cell.seed)["policy"]}
                starts = range(1000 * point, 1000 * point + GRID_EPISODES)
                results = evaluate(session.env, drivers, starts, cell.seed)["policy"]
                curve.append(sum(r.success for r in results) / GRID_EPISODES)
                took = time.monotonic() - began
                print(f"{session.env_steps} steps: {curve[-1]:.2f} ({took:.0f} s)", file=sys.stderr)
            final = evaluate(
                session.env,
                drivers_of(session.task, policy, cell.seed),
                range(FINAL_EPISODES),
                cell.seed,
            )
            if "base" not in final:
                final["base"] = base_of(run, config, session, cell.seed)
            budget = getattr(session.person, "budget_left", None)
        episodes = [
            row
            for row in read_metrics(run.metrics)
            if row["kind"] == "episode" and row["phase"] != "record"
        ]
    shares = {n: sum(r.success for r in rs) / len(rs) for n, rs in final.items() if rs}
    tail = episodes[-20:]
    return {
        **asdict(cell),
        "success": shares["policy"],
        "base_success": shares.get("base"),
        "steps_to_80": steps_to(0.8, curve, cell.steps),
        "interventions": sum(e["takeovers"] for e in episodes),
        "human_steps": sum(e["human_steps"] for e in episodes),
        "budget_left": budget,
        "last_intervention_rate": sum(e["human_steps"] for e in tail)
        / max(1, sum(e["length"] for e in tail)),
        "failures": sum(e["autonomous"] and not e["success"] for e in episodes),
        "auc": sum(curve) / len(curve),
        "trivial_success": max(s for n, s in shares.items() if n.startswith("trivial/")),
        "wall_s": round(time.monotonic() - began, 1),
        "curve": curve,
        "episodes": len(episodes),
        "updates": trainer.updates,
        "trivial": {n: s for n, s in shares.items() if n.startswith("trivial/")},
    }


def base_of(run: Any, config: Any, session: Any, seed: int) -> list[Any]:
    """Train the base on the same demonstrations for a preset that doesn't use it; evaluate it."""
    from actor.drivers import PolicyDriver
    from actor.evaluate import evaluate
    from learner.acting import Policy
    from learner.presets import preset
    from learner.store import Store
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
    driver = PolicyDriver(policy, "base", lambda: 1 << 30)
    return evaluate(session.env, {"base": driver}, range(FINAL_EPISODES), seed)["base"]


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


def commit() -> str:
    """Return the commit that the working tree is at, with a plus sign if it was changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "configs")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def append(path: Path, row: dict[str, Any]) -> None:
    """Append a line under a lock, so that cells which end together don't mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.write(json.dumps(row) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a results file; none if there is no file."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main())
