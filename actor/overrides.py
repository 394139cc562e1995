"""Config keys on a command line: `--learner.utd 4`, typed as the config's dataclasses say."""

from __future__ import annotations

import difflib
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, Union

from handrail.errors import ConfigError
from handrail.renamed_keys import RENAMED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORDS = {"true": True, "false": False}


def split(schema: type, argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that override config keys, and all others.

    An override takes as many words as its type has values, so a task may stand behind it; a list of
    texts takes all words up to the next option.

    Args:
        schema: Dataclass of the whole config, with a dataclass per table.
        argv: Words of a command line.

    Raises:
        ConfigError: No such key, or a key without its value.
    """
    taken: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        if not _is_override(word):
            rest.append(word)
            at += 1
            continue
        count = _count(_find(schema, word)[1], word, argv[at + 1 :])
        taken += argv[at : at + 1 + count]
        at += 1 + count
    return taken, rest


def values_of(schema: type, words: list[str]) -> dict[str, Any]:
    """Return dotted keys and their values; what is no value of its type is left for the config.

    Args:
        schema: As in `split`.
        words: The first of `split`'s results.

    Raises:
        ConfigError: As `split`, or a word that belongs to no option.
    """
    values: dict[str, Any] = {}
    at = 0
    while at < len(words):
        if not _is_override(words[at]):
            raise ConfigError(f"unexpected argument {words[at]!r}; an option is --table.key VALUE")
        key, hint, said = _find(schema, words[at])
        count = _count(hint, words[at], words[at + 1 :])
        given = words[at + 1 : at + 1 + count]
        if "=" in words[at]:
            given = [words[at].split("=", 1)[1]]
        values[key] = said if said is not None and not given else _value(hint, given)
        at += 1 + count
    return values


def _is_override(word: str) -> bool:
    return word.startswith("--") and "." in word.split("=", 1)[0]


def _find(schema: type, word: str) -> tuple[str, Any, bool | None]:
    """Return an option's dotted key, its type, and for a switch what it says."""
    option = word.split("=", 1)[0]
    table, _, name = option.removeprefix("--").replace("-", "_").partition(".")
    tables = typing.get_type_hints(schema)
    if table not in tables or not is_dataclass(tables[table]):
        raise ConfigError(f"no option {option}: no table {table!r}{_near(table, tables)}")
    keys = typing.get_type_hints(tables[table])
    renamed = RENAMED.get(table, {}).get(name)
    if name not in keys and renamed is not None:
        raise ConfigError(f"{option} is called --{table}.{renamed.replace('_', '-')} now")
    negated = name.removeprefix("no_")
    if name not in keys and keys.get(negated) is bool:
        return f"{table}.{negated}", bool, False
    if name not in keys:
        raise ConfigError(f"no option {option}: [{table}] has no key {name!r}{_near(name, keys)}")
    return f"{table}.{name}", keys[name], True if keys[name] is bool else None


def _near(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _count(hint: Any, word: str, after: list[str]) -> int:
    """Return how many of the words after an option are its values."""
    if "=" in word:
        return 0
    end = next((i for i, w in enumerate(after) if w.startswith("-") and not _number(w)), len(after))
    options = _plain(hint)
    kind = options[0]
    if kind is bool and len(options) == 1:
        return int(end > 0 and after[0].lower() in _WORDS)
    if end == 0:
        if typing.get_origin(kind) in (tuple, dict):
            return 0
        raise ConfigError(f"{word} needs a value, as in {word} {_example(kind)}")
    if len(options) > 1 or typing.get_origin(kind) not in (tuple, dict):
        return 1
    if after[0].startswith("[") or (after[0].lower() == "none" and type(None) in _args(hint)):
        return 1
    args = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return end - end % 2
    if Ellipsis not in args:
        return min(len(args), end)
    if args[0] in (int, float) or typing.get_origin(args[0]) is tuple:
        return next((i for i, w in enumerate(after[:end]) if not _number(w)), end)
    return end


def _value(hint: Any, words: list[str]) -> Any:
    kind = _plain(hint)[0]
    if len(words) == 1 and words[0].lower() == "none" and type(None) in _args(hint):
        return None
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return {k: _literal(v) for k, v in zip(words[::2], words[1::2], strict=False)}
    if origin is tuple:
        if len(words) == 1 and words[0].startswith("["):
            return _literal(words[0])
        inner = typing.get_args(args[0]) if typing.get_origin(args[0]) is tuple else ()
        if inner:  # a row of boxes, one behind the other
            flat = [_literal(w) for w in words]
            return [flat[i : i + len(inner)] for i in range(0, len(flat), len(inner))]
        read = _reader(args[0])
        return [read(w) for w in words]
    if len(_plain(hint)) > 1:
        return _literal(words[0])
    return _reader(kind)(words[0])


def _reader(kind: Any) -> Callable[[str], Any]:
    texts = kind in (str, Path) or (
        typing.get_origin(kind) is Literal
        and all(isinstance(choice, str) for choice in typing.get_args(kind))
    )
    return str if texts else _literal


def _literal(word: str) -> Any:
    """Return what a word is in TOML, or the word."""
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for read in (int, float):
        try:
            return read(word)
        except ValueError:
            continue
    if word.startswith("["):
        try:
            return tomllib.loads(f"value = {word}")["value"]
        except tomllib.TOMLDecodeError:
            return word
    return word


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _args(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _plain(hint: Any) -> list[Any]:
    return [kind for kind in _args(hint) if kind is not type(None)]


def _example(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return str(typing.get_args(kind)[0])
    return {int: "3", float: "0.5"}.get(kind, "TEXT")
