"""`handrail check-env gym:ID`: whether an environment can be learned from, and what is wrong."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from handrail.config import from_dict, load_toml
from handrail.errors import ConfigError
from robot_env.gym.config import GymConfig
from robot_env.gym.probe import DEADLINE_S, probe_env
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import prefix_of

STEPS, SECONDS = 1_000, 60.0  # an episode, as a rule


def main(argv: list[str]) -> int:
    """Try an environment for an episode and say what was found; return the exit code."""
    arguments = argparse.ArgumentParser(
        prog="handrail check-env",
        description="Make a gymnasium environment in a process of its own, take random steps to "
        "the end of an episode, and say what is wrong, at which step, and what would be right.",
        epilog="Every run does the short form of this at its door.",
    )
    arguments.add_argument("env", help="gym:ID, gym:module:ID, or a file with [task] and [gym]")
    arguments.add_argument(
        "--deadline", type=float, default=DEADLINE_S, help="of one call [s] (default %(default)g)"
    )
    arguments.add_argument("--horizon", type=int, help="[steps], where it has no time limit")
    arguments.add_argument("--success-key", help="entry of info that says that the goal is reached")
    options = arguments.parse_args(argv)
    task, config = _tables(options)
    probe = probe_env(task, config, _say, steps=STEPS, seconds=SECONDS, deadline=options.deadline)
    spec = probe.spec
    parts = ", ".join(f"{name} {stop - start}" for name, (start, stop) in spec.slices.items())
    _say(f"{task.name}: state of {spec.state} ({parts}), {spec.action} actions, "
         f"{spec.horizon} steps at {spec.control_hz:g} Hz")  # fmt: skip
    end = "to the end of an episode" if probe.ended else "without an end of the episode"
    _say(f"{probe.steps} random steps, {end}: nothing is wrong")
    for note in probe.notes:
        _say(f"note: {note}")
    if config.success_key is None and config.success_return is None:
        _say("note: nothing says what success is ([gym] success_key or success_return), so a run "
             "reports returns only")  # fmt: skip
    return 0


def _tables(options: argparse.Namespace) -> tuple[TaskConfig, GymConfig]:
    if options.env.endswith(".toml"):
        table = load_toml(Path(options.env))
        tasks, gym = table.get("task", {}), table.get("gym", {})
    else:
        tasks, gym = {"name": options.env}, {}
    if options.horizon is not None:
        tasks = {**tasks, "horizon": options.horizon}
    if options.success_key is not None:
        gym = {**gym, "success_key": options.success_key}
    task = from_dict(TaskConfig, tasks, "task")
    if prefix_of(task.name) is None:
        raise ConfigError(f"{task.name!r} is no gymnasium environment: try 'gym:{task.name}'")
    return task, from_dict(GymConfig, gym, "gym")


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
