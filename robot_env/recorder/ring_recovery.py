"""What a ring holds, read by anybody: of a living host, or of one that is gone."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handrail.errors import StorageError
from robot_env.recorder.ring import (
    ABOUT_AT,
    DUMPED,
    LIVE,
    MARK,
    NOTE_COUNT,
    NOTE_SIZE,
    NOTE_WORDS,
    NOTES_AT,
    RECORDS_AT,
    VERSION,
)
from robot_env.recorder.ring_record import (
    ABOUT,
    CONDITION,
    COUNT,
    FORMAT,
    HEAD_SIZE,
    INDEX,
    MAGIC,
    NOTES,
    ORIGIN,
    PID,
    ROWS,
    USED,
    WIDTH,
)

_BLOCK = 4096  # [records] that are copied and checked at once


class Note(NamedTuple):
    """An event that the host wrote down."""

    time: int  # [ns], monotonic clock
    record: int  # index of the first record after it
    what: str


@dataclass(frozen=True)
class RingContents:
    """The newest whole records of a ring, oldest first."""

    about: dict[str, Any]  # what the host wrote about itself
    words: np.ndarray  # (n, WIDTH) int64; their indices grow, and have gaps where a record is torn
    notes: list[Note]
    origin: int  # [ns], from the monotonic clock to the system's time
    pid: int  # of the host
    torn: int  # records that were left out because they are not whole


def read_ring(path: Path) -> RingContents:
    """Return what a ring holds; whoever writes it is not disturbed.

    Raises:
        StorageError: There is none, or it is damaged, of a newer format, or of another layout.
    """
    try:
        with open(path, "rb") as file, _mapped(file, path) as whole:
            head = np.frombuffer(whole, np.int64, HEAD_SIZE).copy()
            rows = int(head[ROWS])
            if head[MAGIC] != MARK or len(whole) < RECORDS_AT:
                raise StorageError(f"{path} is not the ring of a flight recorder")
            if rows < 1:
                raise StorageError(f"{path} is damaged: it has {rows} records")
            if head[FORMAT] > VERSION:
                raise StorageError(f"{path} has format {head[FORMAT]}, this reads {VERSION}")
            about = json.loads(whole[ABOUT_AT : ABOUT_AT + int(head[ABOUT])])
            if not isinstance(about, dict):
                raise StorageError(f"{path} is damaged: it doesn't say what it is of")
            if len(whole) != RECORDS_AT + rows * WIDTH * 8:
                raise StorageError(
                    f"{path} has records of another size than this version's {WIDTH} words; "
                    f"read it with the version that wrote it"
                )
            words, torn = _records(whole, rows)
            notes = _notes(whole)
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(
            f"there is no flight recorder's ring at {path}: the host records in real time, in "
            f"lockstep only with [host] recorder_lockstep = true"
        ) from None
    except StorageError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise StorageError(f"can't read the ring {path}: {error}") from None
    return RingContents(about, words, notes, int(head[ORIGIN]), int(head[PID]), torn)


def left_by_crash(path: Path) -> bool:
    """Return whether a ring was in use when its host went away, and nobody has saved it since."""
    try:
        with open(path, "rb") as file:
            head = np.frombuffer(file.read(8 * HEAD_SIZE), np.int64)
    except (OSError, ValueError):
        return False
    sound = head.size == HEAD_SIZE and head[MAGIC] == MARK and head[FORMAT] <= VERSION
    return bool(sound and head[CONDITION] == LIVE and head[COUNT] > 0)


def mark_dumped(path: Path) -> None:
    """Write into the ring of a dead host that it has been saved."""
    with open(path, "r+b") as file:
        file.seek(8 * CONDITION)
        file.write(DUMPED.to_bytes(8, "little"))


def checksums(words: np.ndarray) -> np.ndarray:
    """Return each record's checksum as `ring_record.checksum` computes it.

    Args:
        words: Records, shape (n, WIDTH) int64.
    """
    weights = 2 * np.arange(INDEX, USED, dtype=np.int64) + 1
    return (words[:, INDEX:USED] * weights).sum(axis=1, dtype=np.int64)


def _mapped(file: Any, path: Path) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise StorageError(f"{path} is empty") from None


def _records(whole: mmap.mmap, rows: int) -> tuple[np.ndarray, int]:
    view = np.frombuffer(whole, np.int64, rows * WIDTH, RECORDS_AT).reshape(rows, WIDTH)
    newest = int(np.frombuffer(whole, np.int64, 1, 8 * COUNT)[0])
    begin = newest % rows if newest > rows else 0  # the oldest first: they are overwritten next
    kept, torn = [], 0
    for at in range(begin, begin + rows, _BLOCK):
        places = np.arange(at, min(at + _BLOCK, begin + rows)) % rows
        block = view[places]
        index = block[:, INDEX]
        whole_ones = (checksums(block) == block[:, 0]) & (index % rows == places)
        written = index != -1
        torn += int((written & ~whole_ones).sum())
        kept.append(block[whole_ones & written])
    words = np.concatenate(kept) if kept else np.zeros((0, WIDTH), np.int64)
    words = words[np.argsort(words[:, INDEX], kind="stable")]
    if len(words):
        words = words[words[:, INDEX] > words[-1, INDEX] - rows]
    return words, torn


def _notes(whole: mmap.mmap) -> list[Note]:
    count = int(np.frombuffer(whole, np.int64, 1, 8 * NOTES)[0])
    notes = []
    for number in range(max(0, count - NOTE_COUNT), count):
        at = NOTES_AT + number % NOTE_COUNT * NOTE_SIZE
        found, now, index, size = np.frombuffer(whole, np.int64, NOTE_WORDS, at).tolist()
        if found == number and 0 <= size <= NOTE_SIZE - 8 * NOTE_WORDS:
            begin = at + 8 * NOTE_WORDS
            notes.append(Note(now, index, whole[begin : begin + size].decode(errors="replace")))
    return notes
