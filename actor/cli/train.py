"""`handrail train TASK`: record, train, evaluate, report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from actor.cli.options import MaybeTask, NewFolder, parse_with_overrides
from handrail.command_line import say
from handrail.errors import ConfigError


@dataclass(frozen=True)
class TrainOptions:
    """Train a task through the whole stack and leave a run folder."""

    task: MaybeTask = None
    out: NewFolder = None
    resume: Path | None = None
    """Run folder to go on with; --run.steps may give it a longer budget."""
    inline: bool = False
    """All roles in one process, bit-reproducible."""
    realtime: bool = False
    """The simulated arm runs in real time."""
    view: bool = False
    """Open MuJoCo's viewer where there is a display."""
    video: bool = True
    """Write policy.mp4."""


def main(argv: list[str]) -> int:
    """Train a task through the whole stack and leave a run folder; return the exit code."""
    options, overrides = parse_with_overrides(TrainOptions, "train", argv)
    if (options.task is None) == (options.resume is None):
        raise ConfigError("give a task, or --resume RUN")

    from actor.cli.run_folders import create_configured_run, extend_run, open_configured_run
    from actor.loop.make_env import needs_host_process
    from actor.report.finalize import finalize
    from actor.report.live_view import LiveView
    from actor.supervisor.supervisor import Supervisor, supervise
    from handrail.processes.stop import INTERRUPTED, stop_on_signals
    from handrail.run_folder import lock_run, resume_clock

    if options.resume is not None:
        run, config = open_configured_run(options.resume)
    else:
        assert options.task is not None
        run, config = create_configured_run(options.task, overrides, options.out)
    hosted = needs_host_process(config)
    if not hosted and (options.realtime or options.view):
        raise ConfigError(
            f"--realtime and --view are about the simulated arm, and {config.task.name} has none"
        )
    with lock_run(run):
        if options.resume is not None:
            run, config = extend_run(run, config, overrides)
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
            return INTERRUPTED
        with stop_on_signals(ends=True) as stop:
            finalize(run, config, options.video, stop.is_set)
            return INTERRUPTED if stop.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
