"""`handrail eval RUN`: evaluate a run folder's newest checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from actor.config import SEED_RULE, SEEDS
from handrail.command_line import Json, RunFolder, parse, say
from handrail.config import check
from robot_env.tasks.base import Task

if TYPE_CHECKING:
    from actor.config import Config
    from actor.loop.episode import EpisodeResult
    from handrail.run_folder import Run
    from learner.policy.policy import Policy
    from robot_env.gym.task import GymTask


@dataclass(frozen=True)
class EvalOptions:
    """Evaluate a run folder's newest checkpoint; a run that has none yet keeps it."""

    run: RunFolder
    episodes: Annotated[int, arg(metavar="N", help="Starts.")] = 50
    start: Annotated[int, arg(metavar="N", help="First start.")] = 0
    film: Annotated[bool, arg(help="Write policy.mp4 as well.")] = False
    robot: Literal["mock", "franka"] | None = None
    """The policy alone, on this arm, through a host process that is started for it."""
    json: Json = False


def main(argv: list[str]) -> int:
    """Evaluate policy, base and trivial policies from the same starts; return the exit code."""
    options = parse(EvalOptions, "eval", argv)
    check(options.episodes >= 1, "--episodes", options.episodes, "1 or more")
    check(0 <= options.start < SEEDS, "--start", options.start, SEED_RULE)

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
    kept = options.robot is None and _keep(run, task, results, options.start, policy.version)
    if options.film:
        record_video(run, config)
    summary = {}
    for name, outcomes in results.items():
        wins, total = sum(r.success for r in outcomes), len(outcomes)
        mean = sum(r.reward_sum for r in outcomes) / total
        if not task.has_success:
            if not options.json:
                say(f"{name:<24} mean return {mean:,.1f} over {total} episodes")
            summary[name] = {"success": None, "return": mean, "episodes": total}
            continue
        low, high = wilson(wins, total)
        share = f"{wins:>3} of {total}  {wins / total:6.1%}"
        if not options.json:
            say(f"{name:<24} {share}   95 % interval {low:.0%} to {high:.0%}")
        summary[name] = {"success": wins / total, "low": low, "high": high, "episodes": total}
    if options.json:
        say(json.dumps(summary))
        return 0
    if policy.weights_meta is not None and policy.has_base and not policy.weights_meta.proven:
        say(UNPROVEN)
    if options.film:
        say(f"film: {run.folder / 'policy.mp4'}")
    if kept:
        say(f"summary: {run.folder / 'summary.json'}")
    return 0


def _keep(
    run: Run,
    task: Task | GymTask,
    results: dict[str, list[EpisodeResult]],
    first: int,
    version: int,
) -> bool:
    """Write an evaluation into a run that has none of its newest state; return whether it was."""
    from actor.loop.session import outcome_row
    from actor.report.summary import read_rows, summarise
    from handrail.errors import RunFolderError
    from handrail.metrics import Metrics
    from handrail.run_folder import lock_run, resume_clock, write_atomic

    rows = read_rows(run.folder)
    steps = max((int(row.get("env_steps") or 0) for row in rows), default=0)
    if any(row.get("kind") == "eval" and row.get("env_steps") == steps for row in rows):
        return False
    try:
        with lock_run(run):
            metrics = Metrics(resume_clock(run), "eval")
            for name, outcomes in results.items():
                about = {"policy": name, "env_steps": steps, "policy_version": version}
                for start, result in enumerate(outcomes, first):
                    row = outcome_row(result, task.has_success)
                    metrics.write("eval", **about, start=start, **row)
            metrics.close()
            text = json.dumps(summarise(run.folder), indent=2) + "\n"
            write_atomic(run.folder / "summary.json", text)
    except RunFolderError:  # it is being trained, and will be evaluated then
        return False
    return True


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
