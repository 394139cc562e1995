"""`handrail eval RUN`: evaluate a run folder's newest checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from actor.commands.options import parser, say


def main(argv: list[str]) -> int:
    """Evaluate policy, base and trivial policies from the same starts; return the exit code."""
    arguments = parser("eval", "Evaluate a run folder's newest checkpoint; nothing is changed.")
    arguments.epilog = None
    arguments.add_argument("run", type=Path, help="run folder")
    arguments.add_argument("--episodes", type=int, default=50, help="starts (default 50)")
    arguments.add_argument("--start", type=int, default=0, help="first start (default 0)")
    arguments.add_argument("--film", action="store_true", help="write policy.mp4 as well")
    options = arguments.parse_args(argv)
    if options.episodes < 1:
        arguments.error(f"--episodes must be 1 or more, got {options.episodes}")

    from actor.commands.folder import existing
    from actor.config import require_simulation
    from actor.evaluate import drivers_of, evaluate
    from actor.film import film
    from actor.report import wilson
    from learner.acting import load_policy
    from robot_env.env import RobotEnv
    from robot_env.host import HostCore
    from robot_env.tasks import make

    run, config = existing(options.run)
    require_simulation(config, "eval")
    task = make(config.task.name, config.task)
    policy = load_policy(run.folder)
    host = HostCore(task, config.robot, config.control)
    try:
        results = evaluate(
            RobotEnv(host, task),
            drivers_of(task, policy, config.run.seed),
            range(options.start, options.start + options.episodes),
            config.run.seed,
        )
    finally:
        host.close()
    summary = {}
    for name, outcomes in results.items():
        wins, total = sum(r.success for r in outcomes), len(outcomes)
        low, high = wilson(wins, total)
        share = f"{wins:>3} of {total}  {wins / total:6.1%}"
        say(f"{name:<24} {share}   95 % interval {low:.0%} to {high:.0%}")
        summary[name] = {"success": wins / total, "low": low, "high": high, "episodes": total}
    if options.film:
        film(run, config)
        say(f"film: {run.folder / 'policy.mp4'}")
    say(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
