"""`handrail new TASK`: make a run folder for hosts that run its processes themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from actor.cli.options import parse, parser, say


def main(argv: list[str]) -> int:
    """Make a run folder and start nothing; return the exit code."""
    arguments = parser("new", "Make a run folder and start nothing: for a learner elsewhere.")
    arguments.add_argument("task", help="a shipped task, .toml file or gym:ID")
    arguments.add_argument("--out", type=Path, help="run folder to make (default: below ./runs)")
    options, overrides = parse(arguments, argv)

    from actor.cli.run_folders import create_configured_run
    from actor.loop.make_env import needs_host_process

    run, config = create_configured_run(options.task, overrides, options.out, "new")
    say(f"run folder: {run.folder}; copy it to the other host before anything runs")
    say(f"there:  handrail learner --run {run.folder.name}")
    if needs_host_process(config):
        say(f"here:   handrail host --run {run.folder}")
    say(f"here:   handrail actor --run {run.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
