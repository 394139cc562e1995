"""`handrail status RUN`: how a run stands now, seen from this host."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from actor.cli.options import parser, say


def main(argv: list[str]) -> int:
    """Say how a run stands; return 1 where its learner doesn't answer."""
    arguments = parser("status", "Say how a run stands now, seen from this host.")
    arguments.epilog = "Exit code 1 where the learner doesn't answer."
    arguments.add_argument("run", type=Path, help="run folder")
    arguments.add_argument("--json", action="store_true", help="as one JSON object a line")
    arguments.add_argument(
        "--watch", type=float, nargs="?", const=2.0, metavar="S", help="again every S seconds [2]"
    )
    options = arguments.parse_args(argv)

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
