"""`handrail actor --run FOLDER`: the actor's process."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from handrail.command_line import parse
from handrail.errors import Error
from handrail.process import KEYS_ENV, attach_to_supervisor, log_to_stderr
from handrail.processes.exit_record import record_error
from handrail.processes.stop import Stopped, stop_on_signals


@dataclass(frozen=True)
class ActorOptions:
    """Run the actor of a run folder to the end of its session."""

    run: Path
    """Run folder."""
    keys: Path | None = None
    """Folder of this host's keys."""


def main(argv: list[str] | None = None) -> int:
    """Run the actor of a run folder to the end of its session; return the exit code."""
    options: ActorOptions = parse(ActorOptions, "actor", argv)
    if options.keys is not None:
        os.environ[KEYS_ENV] = str(options.keys)
    attach_to_supervisor(signal.SIGKILL)  # the spool is crash-safe, and the host minds the arm
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    log = log_to_stderr("actor")
    with stop_on_signals(ends=True) as stop:
        from actor.loop.run_actor import run_actor
        from handrail.errors import DeviceLost, LinkTimeout
        from handrail.run_folder import open_run

        try:
            run_actor(open_run(options.run), stop.is_set)
        except Stopped:
            log.info("stopped on request")
            return 3
        except Error as error:
            record_error(error)
            log.error("%s", error)
            return 1 if isinstance(error, DeviceLost | LinkTimeout) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
