"""One record of the flight recorder's ring, and the compiled functions that write it.

A record is a row of 64-bit words: a checksum, then the groups `tick`, `state`, `reading` and
`mailbox`. `state` is the chain's after the tick. What a tick began with is the state of the record
before, but for the sums of the policy period, which the host may have set back between the two:
they are in the tick's own group. Whatever else changes a state from outside, such as a reset, gets
a record of kind START of its own. So a recording can be replayed from any of its records on.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numba import types

from controllers.chain import PERIOD_SUMS
from controllers.kernel import kernel
from controllers.layout import MAILBOX_SIZE, READING_SIZE, STATE_SIZE, M, R, S

TICK, START = 0, 1  # kinds of record: a control tick; a state that came from outside

# words of a ring's head
MAGIC, FORMAT, ROWS, COUNT, WAKE, LATE, CONDITION, PID, ORIGIN, NOTES, ABOUT = range(11)
_CLOCK = 12  # two words that the system's clock is read into
HEAD_SIZE = 64  # [words]

SUM, INDEX, KIND, WOKE, ENDED, LATES, TORQUE = range(7)  # words of a record
BEFORE = TORQUE + 7
_LOW, _HIGH = PERIOD_SUMS
STATE = BEFORE + _HIGH - _LOW
READING = STATE + STATE_SIZE
MAILBOX = READING + READING_SIZE
USED = MAILBOX + MAILBOX_SIZE
WIDTH = -(-USED // 8) * 8  # [words] of a record, whole cache lines

_MONOTONIC = time.CLOCK_MONOTONIC


class Tape(NamedTuple):
    """A ring as compiled code sees it; one without rows records nothing."""

    words: np.ndarray  # (rows, WIDTH) int64
    values: np.ndarray  # the same memory as float64
    head: np.ndarray  # (HEAD_SIZE,) int64


def no_tape() -> Tape:
    """Return a tape that records nothing."""
    return Tape(np.zeros((0, WIDTH), np.int64), np.zeros((0, WIDTH)), np.zeros(HEAD_SIZE, np.int64))


def layout() -> dict[str, list[tuple[str, str, int, int]]]:
    """Return the fields of each group of a record: name, type, first word, words."""
    sums = [name for name in S._fields if _LOW <= getattr(S, name) < _HIGH]
    first = [(name, "int64", at, 1) for name, at in _INTEGERS.items()]
    before = [(f"before_{n}", "float64", BEFORE + getattr(S, n) - _LOW, 1) for n in sums]
    return {
        "tick": [*first, ("torque", "float64", TORQUE, 7), *before],
        "state": _fields(S, STATE, STATE_SIZE),
        "reading": _fields(R, READING, READING_SIZE),
        "mailbox": _fields(M, MAILBOX, MAILBOX_SIZE),
    }


_INTEGERS = {"index": INDEX, "kind": KIND, "wake": WOKE, "end": ENDED, "late": LATES}


def _fields(offsets: NamedTuple, begin: int, size: int) -> list[tuple[str, str, int, int]]:
    starts = [*offsets, size]
    return [
        (name, "float64", begin + at, after - at)
        for name, at, after in zip(offsets._fields, starts, starts[1:], strict=False)
    ]


def _function(name: str) -> Callable[[int, int], int]:
    address = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    llvm.add_symbol(name, address)
    return types.ExternalFunction(name, types.intc(types.intc, types.intp))  # type: ignore


_clock_gettime = _function("clock_gettime")


@kernel
def checksum(row: np.ndarray) -> np.int64:
    """Return a record's checksum: each word times an odd number, summed modulo 2^64.

    Args:
        row: Words, shape (WIDTH,) int64; the first is not looked at.
    """
    total = np.int64(0)
    for i in range(INDEX, USED):
        total += row[i] * np.int64(2 * i + 1)
    return total


@kernel
def begin_tick(tape: Tape, state: np.ndarray) -> None:
    """Note what a tick begins with; call it before the chain changes the state.

    Args:
        tape: The ring.
        state: Of the chain, shape (STATE_SIZE,).
    """
    rows = tape.words.shape[0]
    if rows == 0:
        return
    words = state.view(np.int64)
    count = tape.head[COUNT]
    changed = np.int64(0)
    if count > 0:
        last = tape.words[(count - 1) % rows]
        for i in range(_LOW):
            changed |= last[STATE + i] ^ words[i]
        for i in range(_HIGH, STATE_SIZE):
            changed |= last[STATE + i] ^ words[i]
    if count == 0 or changed != 0:
        row = tape.words[count % rows]
        row[:] = 0
        row[INDEX], row[KIND], row[LATES] = count, START, tape.head[LATE]
        row[WOKE] = row[ENDED] = _now(tape.head)
        row[STATE : STATE + STATE_SIZE] = words
        row[SUM] = checksum(row)
        count += 1
        tape.head[COUNT] = count
    row = tape.words[count % rows]
    for i in range(_LOW, _HIGH):
        row[BEFORE + i - _LOW] = words[i]


@kernel
def end_tick(
    tape: Tape, state: np.ndarray, reading: np.ndarray, mailbox: np.ndarray, torque: np.ndarray
) -> None:
    """Record a tick; call it when its torque is on its way.

    When the tick began and how many came late before it is what the loop wrote into the head.

    Args:
        tape: The ring.
        state: Of the chain after the tick.
        reading: What the chain was given.
        mailbox: What the chain was given.
        torque: What was sent, shape (7,) [N m].
    """
    rows = tape.words.shape[0]
    if rows == 0:
        return
    head = tape.head
    count = head[COUNT]
    row, values = tape.words[count % rows], tape.values[count % rows]
    now = _now(head)
    row[INDEX], row[KIND], row[ENDED], row[LATES] = count, TICK, now, head[LATE]
    row[WOKE] = head[WAKE] if head[WAKE] != 0 else now
    for i in range(7):
        values[TORQUE + i] = torque[i]
    for i in range(STATE_SIZE):
        values[STATE + i] = state[i]
    for i in range(READING_SIZE):
        values[READING + i] = reading[i]
    for i in range(MAILBOX_SIZE):
        values[MAILBOX + i] = mailbox[i]
    row[SUM] = checksum(row)
    head[COUNT] = count + 1


@kernel
def _now(head: np.ndarray) -> int:
    _clock_gettime(_MONOTONIC, head[_CLOCK:].ctypes.data)
    return head[_CLOCK] * 1_000_000_000 + head[_CLOCK + 1]
