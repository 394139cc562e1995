"""Command lines that mix a command's own options with overrides of any config key."""

from __future__ import annotations

import argparse
import sys

import tyro

from actor.config import Config, load_config

EPILOG = """\
Any key of the config can be overridden by its dotted name, for example
  --learner.utd 4   --run.steps 20000   --task.horizon 100   --operator.enabled
`--help-config` lists them all with their units and defaults."""


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for a command's own options."""
    return argparse.ArgumentParser(
        prog=f"handrail {command}",
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the command's options and the rest, which are overrides.

    Raises:
        SystemExit: Help was asked for, or an option is wrong.
    """
    if "--help-config" in argv:
        names = [word for word in argv if not word.startswith("-")]
        default = load_config(names[0] if names else "peg")
        tyro.cli(Config, prog=parser.prog, args=["--help"], default=default)
    options, rest = parser.parse_known_args(argv)
    stray = [
        word for i, word in enumerate(rest) if not word.startswith("-") and not _value(rest, i)
    ]
    if stray:
        parser.error(f"unexpected argument {stray[0]!r}")
    return options, rest


def _value(words: list[str], index: int) -> bool:
    return index > 0 and (words[index - 1].startswith("-") or _value(words, index - 1))


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    print(text, file=sys.stdout, flush=True)
