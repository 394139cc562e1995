"""What a fuzzed decoder is: how inputs for it are made, taken, and judged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from fuzz_mutate import Parts, damage, vary

MIB = 1 << 20


class Garbage(AssertionError):
    """A decoder accepted what is not right."""


def hold(condition: bool, what: str) -> None:
    """Say that something accepted is garbage unless the condition holds."""
    if not condition:
        raise Garbage(what)


class Target:
    """One decoder; `take` returns what it made of an input or raises one of `refusals`."""

    name = ""
    share = 100  # of 10 000 inputs
    refusals: tuple[type[Exception], ...] = ()
    deadline_s = 2.0  # [s] of the processor, for one input
    growth_bytes = 64 * MIB  # [B], of memory at the peak over what was used before the first input
    batch = 250  # inputs that are settled, and written down as done, together

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.originals: list[Parts] = []

    def make(self, rng: Random) -> Parts:
        """Return an input, mostly a valid one with something wrong."""
        parts = list(rng.choice(self.originals))
        at = rng.randrange(len(parts))
        parts[at] = damage(parts[at], rng, [original[at] for original in self.originals])
        return tuple(parts)

    def passed(self, parts: Parts) -> bool:
        """Return whether an input gets past the first look at its header."""
        raise NotImplementedError

    def take(self, parts: Parts) -> Any:
        """Return what the decoder makes of an input."""
        raise NotImplementedError

    def verify(self, parts: Parts, value: Any) -> None:
        """Raise `Garbage` unless what was accepted is right."""
        raise NotImplementedError

    def settle(self) -> dict[str, int]:
        """Return counts that are known at the end of a batch only."""
        return {}

    def peak_growth(self) -> int | None:
        """Return how far memory has grown elsewhere [B]; None where it is this process's."""
        return None

    def close(self) -> None:
        """Free what the target holds."""


class Files(Target):
    """Files that are written anew for each input."""

    paths: tuple[str, ...] = ()
    mode = 0o600

    def write(self, parts: Parts) -> None:
        """Put an input where the reader looks for it."""
        for name, data in zip(self.paths, parts, strict=True):
            path = self.folder / name
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.mode), "wb") as out:
                out.write(data)

    def read_back(self) -> Parts:
        """Return what was written, as an input."""
        return tuple((self.folder / name).read_bytes() for name in self.paths)


def vary_json(text: bytes, rng: Random) -> bytes:
    """Return JSON text with another value somewhere, or other bytes."""
    if rng.random() < 0.3:
        return damage(text, rng, [text])
    return json.dumps(vary(json.loads(text), rng), indent=rng.choice((None, 1))).encode()


def vary_msgpack(data: bytes, rng: Random) -> bytes:
    """Return msgpack with another value somewhere, or other bytes."""
    if rng.random() < 0.4:
        return damage(data, rng, [data])
    try:
        return msgspec.msgpack.encode(vary(msgspec.msgpack.decode(data), rng))
    except (ValueError, OverflowError, TypeError):
        return damage(data, rng, [data])


def readable(decode: Callable[[bytes], Any], data: bytes) -> bool:
    """Return whether some text or msgpack can be read at all, whatever it says."""
    try:
        decode(data)
    except (ValueError, RecursionError, msgspec.MsgspecError, OverflowError):
        return False
    return True


def plain(value: Any) -> Any:
    """Return a value of JSON with NaNs that equal each other."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
