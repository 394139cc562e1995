"""Damaged inputs from valid ones: bits, numbers, lengths, pieces, and values of the wrong kind."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

Parts: TypeAlias = (
    "tuple[bytes, ...]"  # one input: the frames of a message, or the files of a thing
)

INTEGERS = [
    0, 1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 256, 4095, 65535, 65536, 2**20, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**40 - 1, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
    -1, -2, -128, -(2**31), -(2**63),
]  # fmt: skip
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 5e-324, 3.5e38, 1.8e308, math.inf, -math.inf, math.nan]
TEXTS = [
    "", "a", "\0", "..", "/", "a" * 256, "a" * 257, "\u00e9\U0001f916", "NaN", "'; DROP TABLE rows",
    "%s%n", "1e999", "<f4", "|O", "F32", "BF16", "v" * 5000,
]  # fmt: skip
RUNS = [b"\0", b"\xff", b"[", b"{", b'{"a":', b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"9"]
_PACKS = ["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]


def damage(
    data: bytes, rng: Random, others: Sequence[bytes], hot: Sequence[int] = (), most: int = 3
) -> bytes:
    """Return an input with a few things wrong in its bytes.

    Args:
        data: Valid input.
        rng: Decides what.
        others: Valid inputs of the same kind, of which pieces may be put in.
        hot: Places where numbers begin [B]; half of the changes of numbers are made there.
        most: Changes at most.
    """
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, most))):
        rng.choice(_CHANGES)(found, rng, others, hot)
    return bytes(found)


def vary(value: Any, rng: Random, leaves: float = 0.7) -> Any:
    """Return a copy of a tree of plain values in which one value is another, or gone, or new.

    Args:
        value: Dicts, lists, strings, numbers.
        rng: Decides what.
        leaves: How likely a container is entered rather than replaced.
    """
    if isinstance(value, dict) and value and rng.random() < leaves:
        key = rng.choice(list(value))
        found = dict(value)
        chance = rng.random()
        if chance < 0.1:
            del found[key]
        elif chance < 0.2:
            found[rng.choice(TEXTS)] = found[key]
        else:
            found[key] = vary(found[key], rng, leaves)
        return found
    if isinstance(value, list) and value and rng.random() < leaves:
        at = rng.randrange(len(value))
        found = list(value)
        chance = rng.random()
        if chance < 0.1:
            del found[at]
        elif chance < 0.2:
            found.insert(at, found[rng.randrange(len(found))])
        else:
            found[at] = vary(found[at], rng, leaves)
        return found
    return _other(value, rng)


def _other(value: Any, rng: Random) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.8:
        return rng.choice([*INTEGERS, value + 1, value - 1, -value])
    if isinstance(value, float) and rng.random() < 0.8:
        return rng.choice([*FLOATS, -value, value * 2])
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice([*TEXTS, value + "a", value[:-1], value.upper()])
    if isinstance(value, bytes) and rng.random() < 0.6:
        return damage(value, rng, [value])
    kinds = [
        None, True, False, [], {}, [value], {"a": value}, [value] * 70,
        rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(TEXTS),
    ]  # fmt: skip
    return rng.choice(kinds)


def _flip(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _number(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    """Write an integer, or one near the length of the input, where perhaps there was one."""
    form = rng.choice(_PACKS)
    size = struct.calcsize(form)
    at = rng.choice(hot) if hot and rng.random() < 0.5 else rng.randrange(len(data) + 1)
    if at + size <= len(data):
        number = rng.choice([*INTEGERS, len(data), len(data) - at, len(data) - at - size])
        data[at : at + size] = struct.pack(form, number % (1 << 8 * size))


def _float(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    form = rng.choice(("<f", "<d"))
    size = struct.calcsize(form)
    at = rng.choice(hot) if hot and rng.random() < 0.5 else rng.randrange(len(data) + 1) // 4 * 4
    if at + size <= len(data):
        number = rng.choice(FLOATS)
        if form == "<f" and math.isfinite(number):
            number = max(-3.4e38, min(3.4e38, number))
        data[at : at + size] = struct.pack(form, number)


def _cut(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64))
    del data[at : at + size]


def _repeat(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 512))
    data[at:at] = data[at : at + size]


def _swap(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    size = rng.choice((1, 4, 8, 64))
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    if a + size <= b and b + size <= len(data):
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _splice(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    other = rng.choice(others) if others else b""
    if rng.random() < 0.5:  # the end of another one
        data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]
    else:  # a piece of it, in the same place
        at, size = rng.randrange(len(data) + 1), rng.choice((4, 16, 64, 512))
        data[at : at + size] = other[at : at + size]


def _run(data: bytearray, rng: Random, others: Sequence[bytes], hot: Sequence[int]) -> None:
    """Put in a run of what nests, or fills."""
    piece = rng.choice(RUNS)
    at, count = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 100, 100, 3000))
    data[at:at] = piece * count


_CHANGES: list[Callable[[bytearray, Random, Sequence[bytes], Sequence[int]], None]] = [
    _flip, _flip, _byte, _number, _number, _number, _float, _cut, _remove, _repeat, _swap, _splice,
    _run,
]  # fmt: skip
