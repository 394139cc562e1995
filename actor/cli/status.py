"""`handrail status RUN`: how a run stands now, seen from this host."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from handrail.command_line import Json, RunFolder, parse, say, with_default


@dataclass(frozen=True)
class StatusOptions:
    """Say how a run stands now, seen from this host; exit code 1 if its learner doesn't answer."""

    run: RunFolder
    json: Json = False
    watch: float | None = None
    """Again every so many seconds (2)."""


def main(argv: list[str]) -> int:
    """Say how a run stands; return 1 where its learner doesn't answer."""
    options = parse(StatusOptions, "status", with_default(argv, "--watch", "2"))

    from actor.cli.run_folders import read_configured_run
    from actor.report.run_status import describe, run_status

    run, config, _ = read_configured_run(options.run)
    while True:
        found = run_status(run, config)
        say(json.dumps(found) if options.json else "\n".join(describe(found)))
        if options.watch is None:
            return 1 if "error" in found["learner"] else 0
        time.sleep(options.watch)
        if not options.json:
            say("")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
