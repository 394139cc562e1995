"""TOML files to frozen dataclasses and back, strictly.

Each component's config is a frozen dataclass beside its code; a file has one table per component.
An unknown key or a bad value is an error that names the table, the key, what was given and what
would be right. Values are checked against the annotation; ranges are each class's `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import tomli_w

from handrail import renamed_keys
from handrail.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        ConfigError: The file is missing, unreadable or not TOML; the message gives path and line.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read config file {path}: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def from_dict(cls: type[T], table: dict[str, Any], where: str = "") -> T:
    """Return the dataclass that a TOML table describes; keys left out keep their defaults.

    Args:
        cls: Frozen dataclass to build; fields may be dataclasses themselves.
        table: Keys and values as TOML gives them.
        where: Dotted name of the table, for messages.

    Raises:
        ConfigError: An unknown or missing key, a value of another type, or one out of range.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"[{where}] must be a table, got {table!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            renamed = renamed_keys.RENAMED.get(where, {}).get(key)
            if renamed is not None:
                raise ConfigError(f"[{where}] {key!r} is called {renamed!r} now")
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"[{where or 'top level'}] unknown key {key!r}; {hint}")
    values = {
        key: _convert(hints[key], value, f"{where}.{key}" if where else key)
        for key, value in table.items()
    }
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"[{where or 'top level'}] missing key(s): {', '.join(missing)}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"[{where or 'top level'}] {error}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[{where or 'top level'}] {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Return the plain TOML tables of a config; fields that are None are left out."""
    return {
        f.name: _plain(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if getattr(config, f.name) is not None
    }


def to_toml(config: Any) -> str:
    """Return a config as TOML text that `from_dict` reads back to an equal value."""
    return tomli_w.dumps(to_dict(config))


def digest(*configs: Any) -> str:
    """Return 16 hex digits that two hosts compare to know that they mean the same thing.

    Args:
        configs: Dataclasses, or plain JSON-like values.
    """
    plain = [to_dict(c) if dataclasses.is_dataclass(c) else c for c in configs]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(condition: bool, name: str, value: Any, rule: str) -> None:
    """Raise a `ConfigError` that says which field is wrong, what it was given, and the rule."""
    if not condition:
        raise ConfigError(f"{name} must be {rule}, got {value!r}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in args:
            renamed = renamed_keys.renamed_value(where, value)
            if renamed is not None:
                raise ConfigError(f"{where}: {value!r} is called {renamed!r} now")
            near = difflib.get_close_matches(str(value), [str(a) for a in args], n=1)
            hint_text = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(map(repr, args))
            raise ConfigError(f"{where} must be one of {known}, got {value!r}{hint_text}")
        return value
    if origin in (Union, types.UnionType):
        errors = []
        for option in args:
            if option is type(None):
                continue
            try:
                return _convert(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table, got {value!r}")
        return {k: _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise ConfigError(f"{where} must be {_name(hint)}, got {value!r} ({type(value).__name__})")


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be an array, got {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{where} must have {len(args)} values, got {len(value)}: {value!r}")
    return tuple(
        _convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True))
    )


def _name(hint: Any) -> str:
    return {float: "a number", int: "an integer", str: "a string", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )
