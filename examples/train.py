"""Train a task from Python, in this process: python examples/train.py runs/my-reach 600."""

from __future__ import annotations

import sys
from pathlib import Path

from actor.cli.run_folders import create_configured_run
from actor.loop.run_inline import run_inline
from actor.report.summary import summarise


def main(folder: Path, steps: int) -> None:
    """Train `reach` for some steps and print what was reached."""
    overrides = ["--run.steps", str(steps), "--run.demos", "5", "--run.eval-episodes", "5"]
    overrides += ["--learner.hidden", "64", "64", "--learner.num-qs", "2"]  # small and quick
    run, config = create_configured_run("reach", overrides, folder)
    if not run_inline(run, config):
        print(f"stopped; go on with: handrail train --resume {folder} --inline")
        return
    summary = summarise(folder)
    print(f"success {summary['success']:.0%}, base {summary['base_success']:.0%}")
    print(f"after {summary['env_steps']} steps and {summary['updates']} updates in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
