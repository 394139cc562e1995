"""What each protection is worth in the contact-rich maze: one table, same tasks, same meter.

A policy learns layout 1 and is evaluated there and on the two layouts held out. Rows:

    clip    what peers have: a spring that is clipped at 10 mm, torque limits, nothing else
    filter  the same weights, deployed behind the whole chain
    aware   the chain in training too, and the energy asked of it is a cost with a budget
    reflex  the chain in training too, with a risk critic from scripted collisions
    all     chain, cost, risk critic, and no spring so stiff that it breaks the force rule at rest

An episode breaks the force rule when |F| on the tool exceeds the task's limit in any tick, and the
energy rule when the simulation's own meter finds a window in which more was put into arm and
springs than a tank of the default size and refill allows, whether or not there was a tank.

    python benchmarks/maze.py --train aware --seed 0
    python benchmarks/maze.py --suite --jobs 2
    python benchmarks/maze.py --table docs/results/maze.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.cells import RESULTS as FOLDER
from benchmarks.kit.cells import append, read, run_commands, stamped

RESULTS = FOLDER / "maze.jsonl"
STEPS = 20_000
SEEDS = range(3)
EPISODES = {1: 200, 2: 50, 3: 50}  # of each layout
COLLISIONS = 40_000  # [windows] of 20 ms that the risk critic learns from

# what peers leave out of the chain; box and torque limits stay
PEERS = ["target_error", "speed", "keep_out", "contact", "reflex", "energy", "torque", "passivity"]
COST = ["--learner.cost-budget", "10", "--learner.cost-lr", "0.001"]
TRAINED: dict[str, list[str]] = {  # how each set of weights is trained
    "clip": ["--control.disabled-stages", *PEERS],
    "aware": COST,
    "reflex": [],
    "all": [
        *COST,
        "--control.stiffness-range",
        "50",
        "1100",
    ],  # 11 N an axis, as the greatest stretch is 10 mm
}
WITH_CRITIC = ("reflex", "all")
DEPLOYED = {"clip": ("clip", "filter")}  # rows that a set of weights gives, if not its own


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Learn the maze with and without protections.")
    parser.add_argument("--train", choices=sorted(TRAINED))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--suite", action="store_true", help="run all that have no result yet")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, a core each")
    parser.add_argument("--table", type=Path, help="write the results' table to this page")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options, extra = parser.parse_known_args()
    if options.suite:
        failed = run_commands(missing(options.results), options.jobs)
    else:
        failed = 0
        if options.train:
            for row in run_cell(options.train, options.seed, options.steps, extra):
                append(options.results, stamped(row))
    summary = summarise(list(read(options.results)))
    if options.table:
        from benchmarks.pages.maze_table import write

        write(options.table, summary)
    print(json.dumps(summary))
    return 1 if failed else 0


def missing(results: Path) -> list[list[str]]:
    """Return the commands of what has no result yet."""
    done = {(row["trained"], row["seed"]) for row in read(results) if row["layout"] == 3}
    words = [str(Path(__file__).resolve()), "--results", str(results)]
    return [
        [*words, "--train", name, "--seed", str(seed)]
        for seed in SEEDS
        for name in TRAINED
        if (name, seed) not in done
    ]


def run_cell(name: str, seed: int, steps: int, extra: list[str]) -> list[dict[str, Any]]:
    """Train a set of weights and evaluate it; return a row per deployment and layout."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from actor.cli.risk.episodes import read_sources
    from actor.cli.risk.pipeline import train as train_critic
    from actor.cli.risk.record_collisions import record_collisions
    from actor.cli.run_folders import create_configured_run
    from actor.loop.run_inline import inline_session
    from handrail.run_folder import read_metrics
    from robot_env.tasks import make

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="handrail-maze-") as scratch:
        overrides = ["--run.seed", str(seed), "--run.demo-seed", str(seed)]
        overrides += ["--run.steps", str(steps), *TRAINED[name], *extra]
        run, config = create_configured_run("maze", overrides, Path(scratch) / "run")
        about: dict[str, Any] = {"trained": name, "seed": seed, "steps": steps}
        if name in WITH_CRITIC:
            reach = dataclasses.replace(config.control, stiffness_range=(50.0, 3000.0))
            record_collisions(run, dataclasses.replace(config, control=reach), COLLISIONS)
            judged = train_critic(
                read_sources([run.folder], config.risk), config.risk, run.folder / "risk"
            )
            about["critic"] = {k: judged[k] for k in ("auc", "announced", "false_alarms_per_s")}
        with inline_session(run, config) as (session, trainer):
            session.record(config.run.demos)
            session.wait_for_weights()
            session.train(steps)
            session.link.wait_for_updates(session.policy, session.env_steps)
            policy = session.policy
        episodes = [
            row
            for row in read_metrics(run.metrics)
            if row["kind"] == "episode" and row["phase"] != "record"
        ]
        limit = make("maze", config.task).limits.force
        about |= {
            "train_episodes": len(episodes),
            "train_success": sum(e["success"] for e in episodes) / max(1, len(episodes)),
            "train_force_violations": sum(e["truth"]["force_peak"] > limit for e in episodes),
            "train_energy_violations": sum(e["truth"]["energy_active"] > 1.0 for e in episodes),
            "price": round(trainer.cost_multiplier.value, 5),
            "train_s": round(time.monotonic() - began, 1),
        }
        return [
            {**about, **deploy(run.folder, config, policy, row, layout)}
            for row in DEPLOYED.get(name, (name,))
            for layout in EPISODES
        ]


def deploy(folder: Path, config: Any, policy: Any, row: str, layout: int) -> dict[str, Any]:
    """Evaluate weights behind a chain on a layout; return what came of it."""
    from actor.loop.evaluate import evaluate, policies_to_evaluate
    from controllers.config import ControlConfig
    from robot_env.arms.sim.energy_meter import METER
    from robot_env.env import RobotEnv
    from robot_env.host.core import HostCore
    from robot_env.tasks import make

    control: ControlConfig = config.control
    if row != "clip":
        control = dataclasses.replace(control, disabled_stages=())
    task = make("maze", dataclasses.replace(config.task, layout=layout))
    host = HostCore(task, config.robot, control)
    host.load_critic_of(folder)
    meter, snapshots = host.robot.meter, []
    gated, reflexes, stopped = [], [], []

    def after_step(info: dict[str, Any]) -> None:
        snapshots.append(info["snapshot"])

    def report(_name: str, _start: int, _result: Any) -> None:
        gated.append(meter[METER.gated] / meter[METER.ticks])
        reflexes.append(sum(s.reflex_ticks for s in snapshots) / meter[METER.ticks])
        stopped.append(int(snapshots[-1].fault))
        snapshots.clear()

    driver = {"policy": policies_to_evaluate(task, policy, config.run.seed)["policy"]}
    starts = range(EPISODES[layout])
    env = RobotEnv(host, task)
    try:
        results = evaluate(env, driver, starts, config.run.seed, after_step=after_step,
                           report=report)["policy"]  # fmt: skip
    finally:
        env.close()
    truth = [result.info["privileged_state"] for result in results]
    force = np.array([t["force_peak"] for t in truth])
    energy = np.array([t["energy_active"] for t in truth])
    return {
        "row": row,
        "layout": layout,
        "episodes": len(results),
        "success": float(np.mean([r.success for r in results])),
        "force_violations": int((force > task.limits.force).sum()),
        "energy_violations": int((energy > 1.0).sum()),
        "completed": float(np.mean([max(t["completed"], t["success"]) for t in truth])),
        "gated": float(np.mean(gated)),
        "reflex": float(np.mean(reflexes)),
        "stopped": int(np.count_nonzero(stopped)),
        "force_p50": float(np.median(force)),
        "force_max": float(force.max()),
        "energy_max": float(energy.max()),
        "injected_j": float(np.mean([r.info["energy"] for r in results])),
        "length": float(np.mean([r.length for r in results])),
        "torque_over": int(meter[METER.torque_over]),
        "rate_over": int(meter[METER.rate_over]),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each row and layout means over the seeds, and the spread of success."""
    made: dict[str, Any] = {}
    keys = sorted({(r["layout"], r["row"]) for r in rows}, key=lambda key: (key[0], order(key[1])))
    for layout, name in keys:
        some = [r for r in rows if (r["layout"], r["row"]) == (layout, name)]
        success = [r["success"] for r in some]
        made[f"{name}/{layout}"] = {
            "seeds": len(some),
            "episodes": sum(r["episodes"] for r in some),
            "success": round(float(np.mean(success)), 4),
            "success_range": [round(min(success), 3), round(max(success), 3)],
            **{k: sum(r[k] for r in some) for k in ("force_violations", "energy_violations")},
            **{k: sum(r[k] for r in some) for k in ("stopped", "train_episodes")},
            "train_force_violations": sum(r["train_force_violations"] for r in some),
            "train_energy_violations": sum(r["train_energy_violations"] for r in some),
            **{
                k: round(float(np.mean([r[k] for r in some])), 4)
                for k in ("completed", "gated", "reflex", "injected_j", "length")
            },
            "force_max": round(max(r["force_max"] for r in some), 1),
            "energy_max": round(max(r["energy_max"] for r in some), 3),
        }
    return made


def order(name: str) -> int:
    """Return where a row stands in the table."""
    return ("clip", "filter", "aware", "reflex", "all").index(name)


if __name__ == "__main__":
    sys.exit(main())
