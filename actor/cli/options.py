"""Command lines: a command's own options as a dataclass, and overrides of any config key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from tyro.conf import Positional, arg

from actor.config import Config, resolve_config, shipped
from actor.overrides import split
from actor.resolution import flatten
from handrail.command_line import CONFIG, say
from handrail.config import to_dict

T = TypeVar("T")
TaskName = Annotated[Positional[str], arg(metavar="TASK", help="What the run is of.")]
MaybeTask = Annotated[Positional[str | None], arg(metavar="[TASK]", help="What a new run is of.")]
NewFolder = Annotated[
    Path | None, arg(metavar="RUN", help="Run folder to make (default: below ./runs).")
]

EPILOG = """\
Any key of the config can be overridden by its dotted name, for example
--learner.utd 4, --run.steps 20000, --task.horizon 100, --operator.enabled. --help-config lists
them all with their units and defaults, --help-config --origin says what each is for a task, and
where that comes from: default, preset, file or command line."""


def parse_with_overrides(options: type[T], command: str, argv: list[str]) -> tuple[T, list[str]]:
    """Return a command's options, and the words that override keys of the config.

    Raises:
        ConfigError: There is no such key.
        SystemExit: As `parse`, or the config's help was asked for.
    """
    if "--help-config" in argv:
        _help_config(command, [word for word in argv if word != "--help-config"])
    overrides, rest = split(Config, argv)
    tasks = f"A task is one of {', '.join(shipped())}, a .toml file or gym:ID."
    text = f"{options.__doc__}\n\n{tasks}\n\n{EPILOG}"
    found = tyro.cli(
        options, prog=f"handrail {command}", args=rest, config=CONFIG, description=text
    )
    return found, overrides


def _help_config(command: str, argv: list[str]) -> None:
    """Print the config's keys, or with --origin their values and where they come from; exit."""
    overrides, rest = split(Config, [word for word in argv if word != "--origin"])
    names = [word for word in rest if not word.startswith("-")]
    config, given = resolve_config(names[0] if names else "peg", overrides)
    if "--origin" not in argv:
        tyro.cli(Config, prog=f"handrail {command}", args=["--help"], default=config)
    for key, value in flatten(to_dict(config)).items():
        say(f"{key} = {value!r:<24}  # {given[key].origin}")
    sys.exit(0)
