"""`handrail bc RUN`: train the base policy from a run folder's demonstrations."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from handrail.command_line import RunFolder, parse, say


@dataclass(frozen=True)
class BcOptions:
    """Train the base policy from a run folder's demonstrations."""

    run: RunFolder


def main(argv: list[str]) -> int:
    """Train the base from the recorded demonstrations and checkpoint it; return the exit code."""
    options = parse(BcOptions, "bc", argv)

    from actor.cli.run_folders import open_configured_run
    from actor.loop.run_inline import inline_session
    from handrail.errors import RunFolderError
    from handrail.run_folder import lock_run

    run, config = open_configured_run(options.run)
    with lock_run(run), inline_session(run, config) as (session, trainer):
        if trainer.fitted:
            raise RunFolderError(f"{run.folder} already has a base; record into a new run folder")
        demos = session.link.progress().demos
        if demos < 2:
            raise RunFolderError(
                f"{run.folder} holds {demos} demonstrations, the base needs 2 or more; "
                f"first: handrail record --run {run.folder}"
            )
        summary = trainer.fit_base(lambda row: say(_line(row)))
        say("base trained: " + ", ".join(f"{k} {v:.4g}" for k, v in summary.items()))
        say(f"next: handrail eval {run.folder} or handrail train --resume {run.folder}")
    return 0


def _line(row: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in row.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
