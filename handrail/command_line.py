"""What all commands share: options as dataclasses, results for people or as JSON."""

from __future__ import annotations

import difflib
import json
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from handrail.errors import ConfigError

RunFolder = Annotated[Positional[Path], arg(metavar="RUN", help="Run folder.")]
Json = Annotated[bool, arg(name="json", help="Print the result as JSON, nothing else.")]
CONFIG = (tyro.conf.FlagCreatePairsOff,)


def parse(options: Any, command: str, argv: list[str] | None, about: str | None = None) -> Any:
    """Return a command's options.

    Args:
        options: Dataclass of the options, or a union of them, one per subcommand.
        command: Name for help and errors, such as "eval".
        argv: Arguments behind the name; those of this process where it is None.
        about: Text of the help; None for the dataclass's docstring.

    Raises:
        ConfigError: There is no such subcommand.
        SystemExit: Help was asked for, or an option is wrong; tyro has said which.
    """
    words = sys.argv[1:] if argv is None else argv
    known = [kind.__name__.lower() for kind in typing.get_args(options)]
    if known and words and not words[0].startswith("-") and words[0] not in known:
        raise ConfigError(f"no command {words[0]!r}; {nearest(words[0], known)}")
    return tyro.cli(
        options, prog=f"handrail {command}", args=words, config=CONFIG, description=about
    )


def nearest(name: str, known: list[str]) -> str:
    """Return the advice for a command that doesn't exist."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(known)}"


def with_default(argv: list[str], option: str, value: str) -> list[str]:
    """Return the arguments with a number behind an option that may stand without it."""
    words = list(argv)
    for at, word in enumerate(argv):
        after = argv[at + 1 : at + 2]
        if word == option and not (after and after[0].replace(".", "", 1).isdigit()):
            words[at] = f"{option}={value}"
    return words


def conclude(result: dict[str, Any], as_json: bool, *lines: str) -> None:
    """Print a command's result: lines for a person, or one line of JSON and nothing else.

    Args:
        result: Plain values by name.
        as_json: What was asked for by --json.
        lines: What a person is told before.
    """
    if as_json:
        say(json.dumps(result))
        return
    for line in lines:
        say(line)
    say("  ".join(f"{key.replace('_', ' ')}: {value}" for key, value in result.items()))


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    print(text, file=sys.stdout, flush=True)
