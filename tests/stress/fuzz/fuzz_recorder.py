"""The flight recorder's files: the ring as a crash leaves it, and recordings."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_mutate import Parts, damage
from fuzz_target import Files, hold, vary_json

from controllers.config import ControlConfig
from controllers.packed import PARAMS_SIZE
from handrail.errors import (
    StorageError,
)
from robot_env.recorder.mcap_writer import save
from robot_env.recorder.recorder import describe
from robot_env.recorder.recording import Recording
from robot_env.recorder.ring import RECORDS_AT, Ring
from robot_env.recorder.ring_record import COUNT, INDEX, WIDTH
from robot_env.recorder.ring_recovery import checksums, left_by_crash, read_ring


def made_ring(folder: Path) -> Path:
    """Return a ring with whole records of the recorder's own layout."""
    about = describe(np.zeros(PARAMS_SIZE), ControlConfig(), realtime=False) | {"task": "peg"}
    ring = Ring(folder / "made.ring", 0.012, 0.001, about)
    words = ring.ring_view.words
    words[:9] = np.arange(9 * WIDTH, dtype=np.int64).reshape(9, WIDTH)
    words[:9, INDEX] = np.arange(9)
    words[:9, 0] = checksums(words[:9])
    ring.ring_view.head[COUNT] = 9
    ring.note("here it begins")
    ring.note("here it ends")
    ring.close()
    return folder / "made.ring"


class RingFile(Files):
    """The flight recorder's ring, as it is left by a host."""

    name, share, refusals = "recorder ring", 80, (StorageError,)
    paths = ("recorder.ring",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        data = made_ring(folder).read_bytes()
        self.originals = [(data,)]
        self.words = {row.tobytes() for row in read_ring(folder / "made.ring").words}

    def make(self, rng: Random) -> Parts:
        (data,) = self.originals[0]
        head, rest = data[:512], data[512:]
        chance = rng.random()
        if chance < 0.5:
            return (damage(head, rng, [head], range(0, 160, 8)).ljust(512, b"\0")[:512] + rest,)
        if chance < 0.7:
            text = data[4096 : data.index(b"\0", 4096)]
            other = vary_json(text, rng)[: 4096 * 15]
            size = damage(len(other).to_bytes(8, "little"), rng, []) if chance < 0.55 else b""
            data = data.replace(struct.pack("<Q", len(text)), size or struct.pack("<Q", len(other)))
            return (data[:4096] + other.ljust(4096 * 15, b"\0") + data[4096 * 16 :],)
        if chance < 0.8:
            rows = rng.choice((0, 1, 11, 13))
            return (data[: RECORDS_AT + rows * WIDTH * 8],)
        return (damage(data, rng, [data], range(RECORDS_AT, len(data), 8)),)

    def passed(self, parts: Parts) -> bool:
        return parts[0][:256].find(b"Handrail") >= 0 and len(parts[0]) >= RECORDS_AT

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        left_by_crash(self.folder / self.paths[0])
        return read_ring(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(isinstance(value.about, dict), "no description")
        for row in value.words:
            hold(row.tobytes() in self.words or bool(checksums(row[None])[0] == row[0]), "a record")
        hold(bool((np.diff(value.words[:, INDEX]) > 0).all()), "indices don't grow")


class RecordingFile(Files):
    """Recordings of the flight recorder, MCAP."""

    name, share, refusals = "recording", 50, (StorageError,)
    paths = ("recording.mcap",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = save(read_ring(made_ring(folder)), folder / "made", "a fault", 3)
        self.originals = [(path.read_bytes(),)]

    def passed(self, parts: Parts) -> bool:
        return parts[0].startswith(b"\x89MCAP0\r\n")

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return Recording(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(isinstance(value.about, dict), "no description")
        for table in value.groups.values():
            hold(table.dtype == np.int64 and table.ndim == 2, f"{table.dtype} {table.shape}")
        hold(sum(t.nbytes for t in value.groups.values()) < 1 << 24, "more than was written")


TARGETS = (
    RingFile,
    RecordingFile,
)
