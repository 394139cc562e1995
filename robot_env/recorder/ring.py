"""The ring of the run folder: a file that the control loop writes without system calls.

It holds what was written, whatever becomes of the process. The file is written anew by each host:
head, description, notes, records, each part at a page's beginning.
"""

from __future__ import annotations

import ctypes
import json
import logging
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from handrail.errors import StorageError
from robot_env.recorder.ring_placement import move_to_disk, ring_file
from robot_env.recorder.ring_record import (
    ABOUT,
    CONDITION,
    COUNT,
    FORMAT,
    HEAD_SIZE,
    LATE,
    MAGIC,
    NOTES,
    ORIGIN,
    PID,
    ROWS,
    WAKE,
    WIDTH,
    RingView,
)

log = logging.getLogger("host")

NAME = "recorder.ring"  # of the file, in the run folder
VERSION = 1  # of the file; a reader refuses newer ones
MARK = int.from_bytes(b"Handrail", "little")
LIVE, CLOSED, DUMPED = 0, 1, 2  # condition: in use, or left by a host that was killed; ended; saved
NOTE_COUNT, NOTE_SIZE = 256, 128  # notes that are kept; [bytes] of each
NOTE_WORDS = 4  # number, time [ns], records before it, [bytes] of text
ABOUT_AT, NOTES_AT, RECORDS_AT = 4096, 4096 * 16, 4096 * 24  # [bytes]
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14
_AHEAD = 2.0  # [s] of records whose pages are made writable beforehand
_EVERY = 0.5  # [s]


class Ring:
    """The ring of a living host; nobody else writes it."""

    def __init__(
        self,
        path: Path,
        seconds: float,
        dt: float,
        about: dict[str, Any],
        memory: Path | None = None,
    ) -> None:
        """Make the file, all of it in memory.

        Args:
            path: Where; a file that is there is replaced, whoever reads that one keeps it.
            seconds: How much to remember [s].
            dt: Control period [s].
            about: What a reader needs to know, as JSON.
            memory: Folder of a file system without a disk; `path` is a link into it until `close`.
                A loop in real time wants one, see `ring_file`.

        Raises:
            StorageError: The file can't be made; the message says what would help.
        """
        self.path = path
        rows = max(1, round(seconds / dt))
        self._size = RECORDS_AT + rows * WIDTH * 8
        text = json.dumps(about).encode()
        if len(text) > NOTES_AT - ABOUT_AT:
            raise StorageError(f"what is known about a run must fit 60 kB, got {len(text)} bytes")
        try:
            with ring_file(path, self._size, memory) as fd:
                self._map = mmap.mmap(fd, self._size)
                self._fill(rows, text)
        except OSError as error:
            raise StorageError(
                f"can't make the flight recorder's ring {path} of {self._size / 1e6:.0f} MB: "
                f"{error.strerror}; free some space, or set [host] recorder to fewer seconds"
            ) from None
        self._lock = threading.Lock()
        self._prefaulter = _PagePrefaulter(self)

    def _fill(self, rows: int, about: bytes) -> None:
        view = memoryview(self._map)
        view[ABOUT_AT : ABOUT_AT + len(about)] = about
        head = np.frombuffer(view, np.int64, HEAD_SIZE)
        words = np.frombuffer(view, np.int64, rows * WIDTH, RECORDS_AT).reshape(rows, WIDTH)
        words[:] = -1
        self.ring_view = RingView(words, words.view(np.float64), head)
        self._notes = np.frombuffer(
            view, np.uint8, NOTE_COUNT * NOTE_SIZE, NOTES_AT
        ).reshape(NOTE_COUNT, NOTE_SIZE)  # fmt: skip
        head[FORMAT], head[ROWS], head[ABOUT] = VERSION, rows, len(about)
        head[PID], head[ORIGIN] = os.getpid(), time.time_ns() - time.monotonic_ns()
        head[CONDITION], head[MAGIC] = LIVE, MARK

    def wake(self, now: int, late: int) -> None:
        """Say that the loop woke up.

        Args:
            now: When, on the monotonic clock [ns].
            late: Ticks that came late since the host started [-].
        """
        self.ring_view.head[WAKE], self.ring_view.head[LATE] = now, late

    def note(self, what: str) -> None:
        """Remember an event, from any thread."""
        text = what.encode()[: NOTE_SIZE - 8 * NOTE_WORDS]
        with self._lock:
            number = int(self.ring_view.head[NOTES])
            note = self._notes[number % NOTE_COUNT]
            words = note[: 8 * NOTE_WORDS].view(np.int64)
            words[0] = -1
            words[1], words[2] = time.monotonic_ns(), self.ring_view.head[COUNT]
            words[3] = len(text)
            note[8 * NOTE_WORDS : 8 * NOTE_WORDS + len(text)] = np.frombuffer(text, np.uint8)
            words[0] = number
            self.ring_view.head[NOTES] = number + 1

    def prefault_pages(self) -> None:
        """Keep the pages that come next writable, from a thread; for real time."""
        self._prefaulter.start()

    def close(self, whole: bool = True) -> None:
        """Stop writing; safe to call twice.

        Args:
            whole: Whether the host ended as it should; else the ring counts as left by a crash.
        """
        self._prefaulter.stop()
        if whole:
            self.ring_view.head[CONDITION] = CLOSED
            move_to_disk(self.path)

    def populate(self, first: int, count: int) -> bool:
        """Make the pages of some records writable; return whether the kernel knows how.

        Their contents stay. The kernel writes dirty pages to disk now and then and protects them
        meanwhile: the loop's next write would meet a page fault, and with it the file system.

        Args:
            first: Index of the first record.
            count: How many records.
        """
        rows = self.ring_view.words.shape[0]
        begin = first % rows
        spans = [(begin, min(rows, begin + count)), (0, max(0, begin + count - rows))]
        base = self.ring_view.head.ctypes.data
        for low, high in spans:
            start = (RECORDS_AT + low * WIDTH * 8) // mmap.PAGESIZE * mmap.PAGESIZE
            end = RECORDS_AT + high * WIDTH * 8
            if high > low and _libc.madvise(base + start, end - start, _POPULATE_WRITE) != 0:
                return False
        return True


class _PagePrefaulter:
    def __init__(self, ring: Ring) -> None:
        self._ring, self._stop = ring, threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ring", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        count = round(_AHEAD / 1e-3)
        while True:
            if not self._ring.populate(int(self._ring.ring_view.head[COUNT]), count):
                log.warning(
                    "the kernel can't make pages writable beforehand (needs Linux 5.14): "
                    "the flight recorder may make a tick late"
                )
                return
            if self._stop.wait(_EVERY):
                return


_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
