"""`handrail actor --run FOLDER`: the actor's process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from handrail.errors import Error
from handrail.process import KEYS_ENV, attach_to_supervisor, log_to_stderr, stop_on_signals
from handrail.processes.exit_record import record_error


def main(argv: list[str] | None = None) -> int:
    """Run the actor of a run folder to the end of its session; return the exit code."""
    parser = argparse.ArgumentParser(prog="handrail actor", description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--keys", type=Path, help="folder of this host's keys")
    options = parser.parse_args(argv)
    if options.keys is not None:
        os.environ[KEYS_ENV] = str(options.keys)
    attach_to_supervisor(signal.SIGKILL)  # the spool is crash-safe, and the host minds the arm
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    log = log_to_stderr("actor")
    with stop_on_signals() as stop:
        from actor.link.client import Stopped
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
