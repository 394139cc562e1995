"""`handrail record TASK`: record demonstrations into a run folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actor.cli.options import MaybeTask, NewFolder, parse_with_overrides
from handrail.command_line import say, with_default
from handrail.config import check
from handrail.errors import ConfigError

if TYPE_CHECKING:
    from actor.config import Config


@dataclass(frozen=True)
class RecordOptions:
    """Record demonstrations into a run folder, new or existing."""

    task: MaybeTask = None
    out: NewFolder = None
    run: Path | None = None
    """Existing run folder to add to."""
    episodes: int | None = None
    """Successful episodes to have in all (default: run.demos)."""
    collisions: int | None = None
    """Instead, so many windows of 20 ms of scripted collisions for the risk critic (10000)."""


def main(argv: list[str]) -> int:
    """Record demonstrations by the task's scripted expert, or collisions; return the exit code."""
    options, overrides = parse_with_overrides(
        RecordOptions, "record", with_default(argv, "--collisions", "10000")
    )
    if (options.task is None) == (options.run is None):
        raise ConfigError("give a task, or --run RUN")
    if options.run is not None and overrides:
        raise ConfigError(f"a run has its config already; {' '.join(overrides)} can't override it")

    from actor.cli.run_folders import create_configured_run, open_configured_run
    from actor.config import load_config, require_simulation
    from actor.loop.run_inline import inline_session
    from handrail.run_folder import lock_run

    if options.run is not None:
        run, config = open_configured_run(options.run)
    else:
        assert options.task is not None
        config = load_config(options.task, overrides)
        if options.collisions is None:
            _check_demonstrable(config, options.episodes)
        run, config = create_configured_run(options.task, overrides, options.out)
    if options.collisions is not None:
        from actor.cli.risk.record_collisions import record_collisions

        with lock_run(run):
            files = record_collisions(run, config, options.collisions)
        say(f"{options.collisions} windows in {len(files)} files in {files[0].parent}")
        return 0
    require_simulation(config, "record")
    _check_demonstrable(config, options.episodes)
    wanted = options.episodes or config.run.demos
    with lock_run(run), inline_session(run, config) as (session, _):
        session.episode = session.link.progress().episodes
        session.record(wanted - session.link.progress().demos)
        held = session.link.progress().demos
        then = "bc" if config.learner.needs_base else "train --resume"
        say(f"{held} demonstrations in {run.folder}; next: handrail {then} {run.folder}")
    return 0


def _check_demonstrable(config: Config, episodes: int | None) -> None:
    from robot_env.tasks.kinds import METAWORLD, prefix_of

    check(episodes is None or episodes >= 1, "--episodes", episodes, "1 or more")
    if episodes is None and config.run.demos == 0:
        raise ConfigError(
            f"there is nothing to record: run.demos is 0 for {config.task.name}; give --episodes, "
            f"or go without demonstrations: handrail train {config.task.name}"
        )
    if prefix_of(config.task.name) not in (None, METAWORLD):
        raise ConfigError(
            f"{config.task.name} has no scripted expert to record; without demonstrations: "
            f"handrail train {config.task.name}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
