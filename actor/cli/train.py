"""`handrail train TASK`: record, train, evaluate, report."""

from __future__ import annotations

import sys
from pathlib import Path

from actor.cli.options import parse, parser, say
from handrail.errors import ConfigError


def main(argv: list[str]) -> int:
    """Train a task through the whole stack and leave a run folder; return the exit code."""
    arguments = parser("train", "Train a task through the whole stack and leave a run folder.")
    add = arguments.add_argument
    add(
        "task",
        nargs="?",
        help="a shipped task (reach, pick, peg, assemble), .toml file or gym:ID",
    )
    add("--out", type=Path, help="run folder to make (default: below ./runs)")
    add("--resume", type=Path, metavar="RUN", help="go on with a run folder")
    add("--inline", action="store_true", help="all roles in one process, bit-reproducible")
    add("--realtime", action="store_true", help="the simulated arm runs in real time")
    add("--view", action="store_true", help="open MuJoCo's viewer where there is a display")
    add("--no-video", action="store_true", help="leave out policy.mp4")
    options, overrides = parse(arguments, argv)
    if (options.task is None) == (options.resume is None):
        arguments.error("give a task, or --resume RUN")

    from actor.cli.run_folders import create_configured_run, open_configured_run
    from actor.loop.make_env import needs_host_process
    from actor.report.finalize import finalize
    from actor.report.live_view import LiveView
    from actor.supervisor.supervisor import Supervisor, supervise
    from handrail.run_folder import lock_run, resume_clock

    if options.resume is not None:
        if overrides:
            raise ConfigError(
                f"a resumed run keeps its config, got {' '.join(overrides)}; start a new run to "
                f"change it"
            )
        run, config = open_configured_run(options.resume)
    else:
        run, config = create_configured_run(options.task, overrides, options.out, "train")
    hosted = needs_host_process(config)
    if not hosted and (options.realtime or options.view):
        raise ConfigError(
            f"--realtime and --view are about the simulated arm, and {config.task.name} has none"
        )
    with lock_run(run):
        if options.resume is not None:
            run = resume_clock(run)
        say(f"run folder: {run.folder}")
        if options.inline:
            from actor.config import require_simulation
            from actor.loop.run_inline import run_inline

            require_simulation(config, "train --inline")
            with LiveView(run, config) as view:
                finished = run_inline(run, config, view.update)
        else:
            with LiveView(run, config) as view:
                supervisor = Supervisor(run, options.realtime, options.view, hosted)
                finished = supervise(run, supervisor, view.update)
        if not finished:
            say(f"stopped; go on with: handrail train --resume {run.folder}")
            return 130
        finalize(run, config, video=not options.no_video)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
