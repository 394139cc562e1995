"""`handrail record TASK`: record demonstrations into a run folder."""

from __future__ import annotations

import sys
from pathlib import Path

from actor.cli.options import parse, parser, say


def main(argv: list[str]) -> int:
    """Record demonstrations by the task's scripted expert, or collisions; return the exit code."""
    arguments = parser("record", "Record demonstrations into a run folder, new or existing.")
    arguments.add_argument("task", nargs="?", help="a shipped task or .toml file, for a new run")
    arguments.add_argument("--out", type=Path, help="run folder to make")
    arguments.add_argument("--run", type=Path, help="existing run folder to add to")
    arguments.add_argument("--episodes", type=int, help="successful episodes to have in all")
    arguments.add_argument(
        "--collisions",
        type=int,
        nargs="?",
        const=10_000,
        metavar="N",
        help="instead, N windows of 20 ms of scripted collisions for the risk critic [10000]",
    )
    options, overrides = parse(arguments, argv)
    if (options.task is None) == (options.run is None):
        arguments.error("give a task, or --run RUN")

    from actor.cli.run_folders import create_configured_run, open_configured_run
    from actor.config import require_simulation
    from actor.loop.run_inline import inline_session
    from handrail.run_folder import lock_run

    if options.run is not None:
        run, config = open_configured_run(options.run)
    else:
        run, config = create_configured_run(options.task, overrides, options.out, "record")
    if options.collisions is not None:
        from actor.cli.risk.record_collisions import record_collisions

        with lock_run(run):
            files = record_collisions(run, config, options.collisions)
        say(f"{options.collisions} windows in {len(files)} files in {files[0].parent}")
        return 0
    require_simulation(config, "record")
    wanted = options.episodes or config.run.demos
    with lock_run(run), inline_session(run, config) as (session, _):
        session.episode = session.link.progress().episodes
        session.record(wanted - session.link.progress().demos)
        held = session.link.progress().demos
        say(f"{held} demonstrations in {run.folder}; next: handrail bc {run.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
