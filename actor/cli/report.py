"""`handrail report RUN`: write a run folder's summary and picture again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from actor.cli.options import parser, say


def main(argv: list[str]) -> int:
    """Write summary.json and report.png from the run's metrics; return the exit code."""
    arguments = parser("report", "Write a run folder's summary.json and report.png again.")
    arguments.epilog = None
    arguments.add_argument("run", type=Path, help="run folder")
    options = arguments.parse_args(argv)

    from actor.cli.run_folders import read_configured_run
    from actor.report.figure import write_report
    from actor.report.summary import summarise
    from handrail.run_folder import write_atomic

    run, _, _ = read_configured_run(options.run)
    summary = summarise(run.folder)
    write_atomic(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_report(run.folder)
    say(json.dumps(summary))
    say(f"picture: {run.folder / 'report.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
