"""`handrail learner --run FOLDER`: the learner's process."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from handrail.command_line import parse
from handrail.errors import Error
from handrail.process import (
    KEYS_ENV,
    attach_to_supervisor,
    log_to_stderr,
    raise_fd_limit,
)
from handrail.processes.exit_record import record_error
from handrail.processes.stop import Stopped, stop_on_signals


@dataclass(frozen=True)
class LearnerOptions:
    """Run the learner of a run folder until a signal stops it."""

    run: Path
    """Run folder."""
    keys: Path | None = None
    """Folder of this host's keys."""


def main(argv: list[str] | None = None) -> int:
    """Run the learner of a run folder until a signal stops it; return the exit code."""
    options: LearnerOptions = parse(LearnerOptions, "learner", argv)
    if options.keys is not None:
        os.environ[KEYS_ENV] = str(options.keys)
    attach_to_supervisor(signal.SIGKILL)  # store and checkpoints are crash-safe
    raise_fd_limit()
    log = log_to_stderr("learner")
    with stop_on_signals(ends=True) as stop:
        try:
            from handrail.run_folder import open_run
            from handrail.spec import EnvSpec, load_spec
            from learner.service.server import Server

            run = open_run(options.run)
            spec: EnvSpec = load_spec(run.spec)
            server = Server(run, run.config_tables(), spec)
            try:
                server.run(stop)
            finally:
                server.close()
        except Stopped:  # while the base was trained: there is nothing to keep yet
            log.info("stopped on request")
        except Error as error:
            record_error(error)
            log.error("%s", error)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
