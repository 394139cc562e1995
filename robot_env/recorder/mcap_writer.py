"""Write a ring's contents as an MCAP file that Foxglove, PlotJuggler and ROS tools open.

Topics `/tick`, `/state`, `/reading` and `/mailbox` carry every bit of the records: their messages
are ROS 2's own encoding (CDR), which for 64-bit fields is a header and the memory as it is, so a
NaN stays the NaN it was. `/events` is Foxglove's log panel in JSON. All else is in the metadata.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from handrail.errors import StorageError
from robot_env.recorder.ring_record import ENDED, INDEX, KIND, TICK
from robot_env.recorder.ring_recovery import Note, RingContents

if TYPE_CHECKING:
    from mcap.writer import Writer

FORMAT = 1  # of the files; a reader refuses newer ones
METADATA = "handrail"
EVENTS = "/events"
CDR = b"\x00\x01\x00\x00"  # little-endian, no options
_CHUNK = 4 << 20  # [bytes], before compression
_NAME = re.compile(r"^(\d{6,})-[a-z0-9_-]+\.mcap$")
_LOG = {  # foxglove.Log
    "type": "object",
    "properties": {
        "timestamp": {
            "type": "object",
            "title": "time",
            "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
        },
        "level": {"type": "integer"},
        "message": {"type": "string"},
        "name": {"type": "string"},
    },
}


def save(contents: RingContents, folder: Path, why: str, keep: int) -> Path:
    """Write a recording, whole or not at all, forget the oldest ones, and return its path.

    Args:
        contents: What a ring held.
        folder: Where recordings are; made where it is missing.
        why: What went wrong; part of the file's name.
        keep: Newest recordings that stay [files].

    Raises:
        StorageError: The ring was empty, or the file can't be written.
    """
    if not len(contents.words):
        raise StorageError("the flight recorder holds no tick yet; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(p.name for p in folder.iterdir() if _NAME.match(p.name))
        number = int(names[-1].split("-")[0]) + 1 if names else 0
        slug = re.sub(r"[^a-z0-9]+", "-", why.lower()).strip("-")[:60] or "asked"
        path = folder / f"{number:06d}-{slug}.mcap"
        temporary = folder / f".{path.name}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as out:
                _write(out, contents, why)
                out.flush()
                os.fsync(out.fileno())
            while True:  # another process may have taken the number meanwhile
                try:
                    os.link(temporary, path)
                    break
                except FileExistsError:
                    number += 1
                    path = folder / f"{number:06d}-{slug}.mcap"
        finally:
            temporary.unlink(missing_ok=True)
        for name in names[: max(0, len(names) + 1 - keep)]:
            (folder / name).unlink(missing_ok=True)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"can't write a recording to {folder}: {error}") from None
    return path


def message_type(fields: list[tuple[str, str, int, int]]) -> str:
    """Return the ROS 2 message definition of a group's fields."""
    return "".join(
        f"{kind}{f'[{size}]' if size > 1 else ''} {name}\n" for name, kind, _, size in fields
    )


def log_times(contents: RingContents) -> np.ndarray:
    """Return each record's time for people, (n,) int64 [ns since 1970], never falling.

    In real time that is when the tick ended. In lockstep ticks come in bursts, so there it is the
    time of the newest one, less a control period for each record after.
    """
    ends = contents.words[:, ENDED] + contents.origin
    if not contents.about["realtime"]:
        step = round(1e9 * float(contents.about["dt"]))
        ends = ends[-1] - step * (contents.words[-1, INDEX] - contents.words[:, INDEX])
    return np.maximum.accumulate(ends)


def _write(out: IO[bytes], contents: RingContents, why: str) -> None:
    from mcap.writer import CompressionType, Writer

    writer = Writer(out, chunk_size=_CHUNK, compression=CompressionType.ZSTD)
    writer.start(profile="ros2", library="handrail")
    channels = []
    for group, fields in contents.about["layout"].items():
        text = message_type(fields).encode()
        schema = writer.register_schema(f"handrail/msg/{group.capitalize()}", "ros2msg", text)
        channel = writer.register_channel(f"/{group}", "cdr", schema)
        low, (_, _, last, size) = fields[0][2], fields[-1]
        packed = np.ascontiguousarray(contents.words[:, low : last + size]).tobytes()
        channels.append((group, channel, packed, 8 * (last + size - low)))
    schema = writer.register_schema("foxglove.Log", "jsonschema", json.dumps(_LOG).encode())
    events = writer.register_channel(EVENTS, "json", schema)
    writer.add_metadata(METADATA, _metadata(contents, why))

    times, kinds = log_times(contents).tolist(), contents.words[:, KIND].tolist()
    indices = contents.words[:, INDEX].tolist()
    notes = list(contents.notes)
    for n, (now, kind, index) in enumerate(zip(times, kinds, indices, strict=True)):
        while notes and notes[0].record <= index:
            _add_note(writer, events, notes.pop(0), contents.origin, now)
        for group, channel, packed, size in channels:
            if kind == TICK or group in ("tick", "state"):
                data = CDR + packed[n * size : (n + 1) * size]
                writer.add_message(channel, now, data, now, index & 0xFFFFFFFF)
    for note in notes:
        _add_note(writer, events, note, contents.origin, times[-1])
    writer.finish()


def _add_note(writer: Writer, channel: int, note: Note, origin: int, now: int) -> None:
    sec, nsec = divmod(note.time + origin, 1_000_000_000)
    payload = {
        "timestamp": {"sec": sec, "nsec": nsec},
        "level": 3,  # warning
        "message": note.what,
        "name": "host",
        "monotonic_ns": note.time,
        "index": note.record,
    }
    writer.add_message(channel, now, json.dumps(payload).encode(), now)


def _metadata(contents: RingContents, why: str) -> dict[str, str]:
    return {
        "format": str(FORMAT),
        "why": why,
        "about": json.dumps(contents.about),
        "origin": str(contents.origin),
        "pid": str(contents.pid),
        "torn": str(contents.torn),
    }
