"""How good the base is, and whether more training would make it better.

For each seed it records demonstrations, trains the base to its validation minimum and then twice
as long, and evaluates both from the same starts. The last line is a JSON object with the keys
`task, seeds, episodes, base_success, base_success_twice, steps, per_seed`.

    python benchmarks/studies/base.py --task peg --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description="How good the base is.")
    parser.add_argument("--task", default="peg")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=50, help="evaluation starts per seed")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    rows = [measure(options.task, seed, options.episodes) for seed in options.seeds]
    for row in rows:
        print(json.dumps(row))
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("once", "twice", "steps")}
    print(
        json.dumps(
            {
                "task": options.task,
                "seeds": options.seeds,
                "episodes": options.episodes * len(rows),
                "base_success": mean["once"],
                "base_success_twice": mean["twice"],
                "steps": mean["steps"],
                "per_seed": rows,
            }
        )
    )
    return 0


def measure(task: str, seed: int, episodes: int) -> dict[str, Any]:
    """Return one seed's success of the base, trained once and twice as long."""
    from actor.cli.run_folders import create_configured_run
    from actor.loop.run_inline import inline_session

    row: dict[str, Any] = {"seed": seed}
    for name, multiple in (("once", "1"), ("twice", "2")):
        with tempfile.TemporaryDirectory(prefix="handrail-base-") as scratch:
            overrides = ["--run.seed", str(seed), "--run.demo-seed", str(seed)]
            overrides += ["--base.train-multiple", multiple]
            run, config = create_configured_run(task, overrides, Path(scratch) / "run", "bc")
            with inline_session(run, config) as (session, trainer):
                session.record(config.run.demos)
                summary = trainer.fit_base()
                row[name] = success_of_base(session, trainer, seed, episodes)
            if name == "once":
                row["steps"] = summary["minimum_step"]
    return row


def success_of_base(session: Any, trainer: Any, seed: int, episodes: int) -> float:
    """Return the share of episodes in which the base alone succeeds."""
    from actor.loop.evaluate import evaluate
    from actor.loop.policies import LearnedPolicy

    session.policy.load(*trainer.packet())
    driver = LearnedPolicy(session.policy, "base")
    results = evaluate(session.env, {"base": driver}, range(episodes), seed)["base"]
    return sum(result.success for result in results) / episodes


if __name__ == "__main__":
    sys.exit(main())
