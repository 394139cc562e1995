"""`handrail report RUN`: write a run folder's summary and picture again."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from handrail.command_line import Json, RunFolder, parse, say


@dataclass(frozen=True)
class ReportOptions:
    """Write a run folder's summary.json and report.png again."""

    run: RunFolder
    json: Json = False


def main(argv: list[str]) -> int:
    """Write summary.json and report.png from the run's metrics; return the exit code."""
    options = parse(ReportOptions, "report", argv)

    from actor.cli.run_folders import read_configured_run
    from actor.report.figure import write_report
    from actor.report.finalize import result_lines
    from actor.report.summary import summarise
    from handrail.run_folder import write_atomic

    run, _, _ = read_configured_run(options.run)
    summary = summarise(run.folder)
    write_atomic(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_report(run.folder)
    if options.json:
        say(json.dumps(summary))
        return 0
    for line in result_lines(run, summary):
        say(line)
    say(f"picture: {run.folder / 'report.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
