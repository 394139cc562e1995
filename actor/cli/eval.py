"""`handrail eval RUN`: evaluate a run folder's newest checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from actor.cli.options import parser, say
from robot_env.tasks.base import Task

if TYPE_CHECKING:
    from actor.config import Config
    from actor.loop.episode import EpisodeResult
    from handrail.run_folder import Run
    from learner.policy.policy import Policy
    from robot_env.gym.task import GymTask


def main(argv: list[str]) -> int:
    """Evaluate policy, base and trivial policies from the same starts; return the exit code."""
    arguments = parser("eval", "Evaluate a run folder's newest checkpoint; nothing is changed.")
    arguments.epilog = None
    arguments.add_argument("run", type=Path, help="run folder")
    arguments.add_argument("--episodes", type=int, default=50, help="starts (default 50)")
    arguments.add_argument("--start", type=int, default=0, help="first start (default 0)")
    arguments.add_argument("--film", action="store_true", help="write policy.mp4 as well")
    arguments.add_argument(
        "--robot",
        choices=("mock", "franka"),
        help="the policy alone, on this arm, through a host process that is started for it",
    )
    options = arguments.parse_args(argv)
    if options.episodes < 1:
        arguments.error(f"--episodes must be 1 or more, got {options.episodes}")

    from actor.cli.run_folders import open_configured_run
    from actor.loop.make_env import make_task
    from actor.report.finalize import UNPROVEN
    from actor.report.summary import wilson
    from actor.report.video import record_video
    from handrail.errors import ConfigError
    from learner.policy.load import load_policy

    run, config = open_configured_run(options.run)
    task = make_task(config)
    if options.robot is not None and not (isinstance(task, Task) and task.success_is_measurable):
        raise ConfigError(
            f"nobody can tell on a real arm whether task {task.name} is done: its truth comes from "
            "the simulation"
        )
    policy = load_policy(run.folder)
    starts = range(options.start, options.start + options.episodes)
    if options.robot is None or not isinstance(task, Task):
        results = _simulated(config, task, policy, starts)
    else:
        results = _on_a_robot(run, task, policy, starts, config.run.seed, options.robot)
    summary = {}
    for name, outcomes in results.items():
        wins, total = sum(r.success for r in outcomes), len(outcomes)
        mean = sum(r.reward_sum for r in outcomes) / total
        if not task.has_success:
            say(f"{name:<24} mean return {mean:,.1f} over {total} episodes")
            summary[name] = {"success": None, "return": mean, "episodes": total}
            continue
        low, high = wilson(wins, total)
        share = f"{wins:>3} of {total}  {wins / total:6.1%}"
        say(f"{name:<24} {share}   95 % interval {low:.0%} to {high:.0%}")
        summary[name] = {"success": wins / total, "low": low, "high": high, "episodes": total}
    if policy.weights_meta is not None and policy.has_base and not policy.weights_meta.proven:
        say(UNPROVEN)
    if options.film:
        record_video(run, config)
        say(f"film: {run.folder / 'policy.mp4'}")
    say(json.dumps(summary))
    return 0


def _simulated(
    config: Config, task: Task | GymTask, policy: Policy, starts: Iterable[int]
) -> dict[str, list[EpisodeResult]]:
    from actor.config import require_simulation
    from actor.loop.evaluate import evaluate, policies_to_evaluate, with_held_out
    from actor.loop.make_env import make_env

    require_simulation(config, "eval` without `--robot")
    seed = config.run.seed
    env = make_env(config, task)
    try:
        return {
            prefix + name: results
            for prefix, each in with_held_out(env).items()
            for name, results in evaluate(
                each, policies_to_evaluate(task, policy, seed), starts, seed
            ).items()
        }
    finally:
        env.close()


def _on_a_robot(
    run: Run, task: Task, policy: Policy, starts: Iterable[int], seed: int, robot: str
) -> dict[str, list[EpisodeResult]]:
    from actor.loop.evaluate import evaluate, policies_to_evaluate
    from actor.supervisor.host_process import running_host
    from robot_env.env import RobotEnv

    policies = {
        "policy": policies_to_evaluate(task, policy, seed)["policy"]
    }  # nobody asked for random motion

    def tell(name: str, start: int, result: EpisodeResult) -> None:
        outcome = "success" if result.success else "failure"
        say(f"start {start}: {outcome} after {result.length} steps")

    with running_host(run, task, robot) as client:
        return evaluate(RobotEnv(client, task), policies, starts, seed, report=tell)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
