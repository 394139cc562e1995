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
from controllers.packed import CMD, COMMAND_BUFFER_SIZE, MEAS, MEASUREMENT_SIZE, STATE, STATE_SIZE

TICK, START = 0, 1  # kinds of record: a control tick; a state that came from outside

# words of a ring's head
MAGIC, FORMAT, ROWS, COUNT, WAKE, LATE, CONDITION, PID, ORIGIN, NOTES, ABOUT = range(11)
_CLOCK = 12  # two words that the system's clock is read into
HEAD_SIZE = 64  # [words]

SUM, INDEX, KIND, WOKE, ENDED, LATES, TORQUE = range(7)  # words of a record
BEFORE = TORQUE + 7
_LOW, _HIGH = PERIOD_SUMS
STATE_AT = BEFORE + _HIGH - _LOW
MEASUREMENT_AT = STATE_AT + STATE_SIZE
COMMAND_BUFFER_AT = MEASUREMENT_AT + MEASUREMENT_SIZE
USED = COMMAND_BUFFER_AT + COMMAND_BUFFER_SIZE
WIDTH = -(-USED // 8) * 8  # [words] of a record, whole cache lines

_MONOTONIC = time.CLOCK_MONOTONIC


class RingView(NamedTuple):
    """A ring as compiled code sees it; one without rows records nothing."""

    words: np.ndarray  # (rows, WIDTH) int64
    values: np.ndarray  # the same memory as float64
    head: np.ndarray  # (HEAD_SIZE,) int64


def memory_ring_view(rows: int) -> RingView:
    """Return a ring of the process's own, for whoever looks back on ticks; without rows, none.

    Args:
        rows: Records that it holds: a tick each, and one for each reset.
    """
    words = np.zeros((rows, WIDTH), np.int64)
    return RingView(words, words.view(np.float64), np.zeros(HEAD_SIZE, np.int64))


def newest_ticks(ring_view: RingView, count: int) -> dict[str, np.ndarray]:
    """Return what the newest ticks left, oldest first, by the names that recordings give it.

    Args:
        ring_view: A ring of this process.
        count: How many ticks, if it has so many.

    Returns:
        Arrays (n,) or (n, size): `q` of the state, `reading.q`, `mailbox.pose`, `tick.torque`.
    """
    rows, total = ring_view.words.shape[0], int(ring_view.head[COUNT])
    order = np.arange(max(0, total - rows), total) % max(rows, 1)
    values = ring_view.values[order[ring_view.words[order, KIND] == TICK][-count:]]
    return {
        name if group == "state" else f"{group}.{name}": (
            values[:, at] if size == 1 else values[:, at : at + size]
        )
        for group, fields in layout().items()
        for name, kind, at, size in fields
        if kind == "float64"
    }


def layout() -> dict[str, list[tuple[str, str, int, int]]]:
    """Return the fields of each group of a record: name, type, first word, words."""
    sums = [name for name in STATE._fields if _LOW <= getattr(STATE, name) < _HIGH]
    first = [(name, "int64", at, 1) for name, at in _INTEGERS.items()]
    before = [(f"before_{n}", "float64", BEFORE + getattr(STATE, n) - _LOW, 1) for n in sums]
    return {
        "tick": [*first, ("torque", "float64", TORQUE, 7), *before],
        "state": _fields(STATE, STATE_AT, STATE_SIZE),
        "reading": _fields(MEAS, MEASUREMENT_AT, MEASUREMENT_SIZE),
        "mailbox": _fields(CMD, COMMAND_BUFFER_AT, COMMAND_BUFFER_SIZE),
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
def begin_tick(ring_view: RingView, state: np.ndarray) -> None:
    """Note what a tick begins with; call it before the chain changes the state.

    Args:
        ring_view: The ring.
        state: Of the chain, shape (STATE_SIZE,).
    """
    rows = ring_view.words.shape[0]
    if rows == 0:
        return
    words = state.view(np.int64)
    count = ring_view.head[COUNT]
    changed = np.int64(0)
    if count > 0:
        last = ring_view.words[(count - 1) % rows]
        for i in range(_LOW):
            changed |= last[STATE_AT + i] ^ words[i]
        for i in range(_HIGH, STATE_SIZE):
            changed |= last[STATE_AT + i] ^ words[i]
    if count == 0 or changed != 0:
        row = ring_view.words[count % rows]
        row[:] = 0
        row[INDEX], row[KIND], row[LATES] = count, START, ring_view.head[LATE]
        row[WOKE] = row[ENDED] = _now(ring_view.head)
        row[STATE_AT : STATE_AT + STATE_SIZE] = words
        row[SUM] = checksum(row)
        count += 1
        ring_view.head[COUNT] = count
    row = ring_view.words[count % rows]
    for i in range(_LOW, _HIGH):
        row[BEFORE + i - _LOW] = words[i]


@kernel
def end_tick(
    ring_view: RingView,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Record a tick; call it when its torque is on its way.

    When the tick began and how many came late before it is what the loop wrote into the head.

    Args:
        ring_view: The ring.
        state: Of the chain after the tick.
        measurement: What the chain was given.
        command_buffer: What the chain was given.
        torque: What was sent, shape (7,) [N m].
    """
    rows = ring_view.words.shape[0]
    if rows == 0:
        return
    head = ring_view.head
    count = head[COUNT]
    row, values = ring_view.words[count % rows], ring_view.values[count % rows]
    now = _now(head)
    row[INDEX], row[KIND], row[ENDED], row[LATES] = count, TICK, now, head[LATE]
    row[WOKE] = head[WAKE] if head[WAKE] != 0 else now
    for i in range(7):
        values[TORQUE + i] = torque[i]
    for i in range(STATE_SIZE):
        values[STATE_AT + i] = state[i]
    for i in range(MEASUREMENT_SIZE):
        values[MEASUREMENT_AT + i] = measurement[i]
    for i in range(COMMAND_BUFFER_SIZE):
        values[COMMAND_BUFFER_AT + i] = command_buffer[i]
    row[SUM] = checksum(row)
    head[COUNT] = count + 1


@kernel
def _now(head: np.ndarray) -> int:
    _clock_gettime(_MONOTONIC, head[_CLOCK:].ctypes.data)
    return head[_CLOCK] * 1_000_000_000 + head[_CLOCK + 1]
