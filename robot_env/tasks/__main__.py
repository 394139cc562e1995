"""`python -m robot_env.tasks --evaluate peg`: what experts and baselines make of a task."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from controllers.config import ControlConfig
from handrail.config import from_dict, load_toml
from handrail.errors import Error
from robot_env.env import RobotEnv
from robot_env.tasks import make, names
from robot_env.tasks.base import ScriptedPolicy
from robot_env.tasks.config import TaskConfig


def evaluate(env: RobotEnv, policy: ScriptedPolicy, episodes: int) -> dict[str, float]:
    """Return what a policy reaches from the numbered starts 0, 1, ...

    Args:
        env: Environment of the task.
        policy: Expert or baseline.
        episodes: How many starts.

    Returns:
        `success` [-], `length` [steps], `force_peak` [N] (means over episodes, the peak's median
        too) and `steps_per_s`.
    """
    successes, lengths, forces, steps, begun = [], [], [], 0, time.monotonic()
    for start in range(episodes):
        _, info = env.reset(options={"start": start})
        policy.reset()
        terminated = truncated = False
        length = 0
        while not (terminated or truncated):
            action = policy.act(info["snapshot"], info["goal_estimate"])
            _, _, terminated, truncated, info = env.step(action)
            length += 1
        successes.append(info["success"])
        lengths.append(length)
        forces.append(info["force_peak"])
        steps += length
    return {
        "success": float(np.mean(successes)),
        "length": float(np.mean(lengths)),
        "force_peak": float(np.median(forces)),
        "force_max": float(np.max(forces)),
        "episodes_per_s": episodes / (time.monotonic() - begun),
        "steps_per_s": steps / (time.monotonic() - begun),
    }


def main(argv: list[str] | None = None) -> int:
    """Print a table and, as the last line, the same as JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m robot_env.tasks", description=__doc__)
    parser.add_argument("--evaluate", metavar="TASK", required=True, help=", ".join(names()))
    parser.add_argument("--episodes", type=int, default=50, help="numbered starts, from 0")
    parser.add_argument("--config", type=Path, help="TOML file with [task], [robot], [control]")
    parser.add_argument("--frames", type=Path, help="folder for pictures along an expert's episode")
    parser.add_argument("--seed", type=int, default=0, help="of the policies' own noise")
    options = parser.parse_args(argv)
    try:
        result = _run(options)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from robot_env.arms.sim.config import MujocoConfig
    from robot_env.host.core import HostCore

    table = load_toml(options.config) if options.config else {}
    config = from_dict(TaskConfig, {"name": options.evaluate} | table.get("task", {}), "task")
    config = dataclasses.replace(config, images=False)
    task = make(options.evaluate, config)
    host = HostCore(
        task,
        from_dict(MujocoConfig, table.get("robot", {}), "robot"),
        from_dict(ControlConfig, table.get("control", {}), "control"),
    )
    env = RobotEnv(host, task)
    try:
        if options.frames is not None:
            _film(env, options.frames)
        policies: dict[str, ScriptedPolicy] = {
            "expert": task.expert(np.random.default_rng(options.seed)),
            "expert_noisy": task.expert(np.random.default_rng(options.seed), noise=1.0),
        }
        for name, factory in task.baselines.items():
            policies[f"trivial/{name}"] = factory(np.random.default_rng(options.seed))
        for name, factory in task.scripted_baselines.items():
            policies[f"reference/{name}"] = factory(np.random.default_rng(options.seed))
        rows = {}
        heads = ("success", "length", "force_peak", "force_max", "steps_per_s")
        print(f"{task.name:<24}" + "".join(f"{head:>13}" for head in heads))
        for name, policy in policies.items():
            rows[name] = evaluate(env, policy, options.episodes)
            values = "".join(f"{rows[name][head]:>13.2f}" for head in heads)
            print(f"{name:<24}{values}", flush=True)
    finally:
        env.close()
    return {
        "task": task.name,
        "task_hash": task.spec.task_hash,
        "episodes": options.episodes,
    } | rows


def _film(env: RobotEnv, folder: Path, every: int = 10) -> None:
    import imageio.v3 as imageio

    folder.mkdir(parents=True, exist_ok=True)
    name = env.task.name.rpartition(":")[2]
    policy = env.task.expert(np.random.default_rng(0))
    _, info = env.reset(options={"start": 0})
    done, t = False, 0
    while not done:
        if t % every == 0:
            picture = env.host.render("film", 480, 480)
            imageio.imwrite(folder / f"{name}_{t:03d}.png", picture)
        action = policy.act(info["snapshot"], info["goal_estimate"])
        _, _, terminated, truncated, info = env.step(action)
        done, t = terminated or truncated, t + 1
    for camera in ("film", "front", "wrist"):
        picture = env.host.render(camera, 480, 480)
        imageio.imwrite(folder / f"{name}_end_{camera}.png", picture)


if __name__ == "__main__":
    sys.exit(main())
