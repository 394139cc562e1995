"""`handrail new TASK`: make a run folder for hosts that run its processes themselves."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from actor.cli.options import NewFolder, TaskName, parse_with_overrides
from handrail.command_line import say


@dataclass(frozen=True)
class NewOptions:
    """Make a run folder and start nothing: for a learner elsewhere."""

    task: TaskName
    out: NewFolder = None


def main(argv: list[str]) -> int:
    """Make a run folder and start nothing; return the exit code."""
    options, overrides = parse_with_overrides(NewOptions, "new", argv)

    from actor.cli.run_folders import create_configured_run
    from actor.loop.make_env import needs_host_process

    run, config = create_configured_run(options.task, overrides, options.out)
    say(f"run folder: {run.folder}; copy it to the other host before anything runs")
    say(f"there:  handrail learner --run {run.folder.name}")
    if needs_host_process(config):
        say(f"here:   handrail host --run {run.folder}")
    say(f"here:   handrail actor --run {run.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
