"""Read a recording back."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from handrail.errors import StorageError
from robot_env.recorder.mcap_writer import CDR, EVENTS, FORMAT, METADATA
from robot_env.recorder.ring_record import TICK

GROUPS = ("tick", "state", "reading", "mailbox")


class Event(NamedTuple):
    """Something that the host wrote down."""

    time: float  # [s], monotonic clock
    row: int  # first tick after it
    what: str


class Recording:
    """A recording: `recording["tank"]` is a quantity over its ticks.

    A name that several groups have is the state's before the reading's before the mailbox's;
    `recording["reading.q"]` says which. Each group as a whole is in `groups`, where `tick` and
    `state` also have the records of kind START.
    """

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            StorageError: Not a recording, damaged, or of a newer format.
        """
        self.path = path
        try:
            with open(path, "rb") as file:
                metadata, parts = _read(file)
            if not metadata:
                raise StorageError(f"{path} is an MCAP file, but not a flight recording")
            if int(metadata["format"]) > FORMAT:
                raise StorageError(f"{path} has format {metadata['format']}, this reads {FORMAT}")
            self.why = metadata["why"]
            self.about: dict[str, Any] = json.loads(metadata["about"])
            self.origin = int(metadata["origin"])  # [ns], monotonic clock to the system's time
            self.torn = int(metadata["torn"])  # records that were not whole
            self._fields = {
                group: {name: (kind, at - fields[0][2], size) for name, kind, at, size in fields}
                for group, fields in self.about["layout"].items()
            }
            self.groups = {name: self._table(name, parts.get(f"/{name}", [])) for name in GROUPS}
            self.events = [self._event(json.loads(data)) for data in parts.get(EVENTS, [])]
        except (StorageError, ModuleNotFoundError):
            raise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            OverflowError,
            RecursionError,
            struct.error,
        ) as error:
            raise StorageError(f"{path} is not a whole flight recording: {error}") from None

    @property
    def kinds(self) -> np.ndarray:
        """Kind of each record, (n,) int64."""
        return self.column("tick", "kind")

    @property
    def wall(self) -> np.ndarray:
        """When each tick ended on the monotonic clock, (n,) [s]."""
        return 1e-9 * self["tick.end"]

    @property
    def wake(self) -> np.ndarray:
        """When the loop woke up for each tick on the monotonic clock, (n,) [s]."""
        return 1e-9 * self["tick.wake"]

    @property
    def params(self) -> np.ndarray:
        """The chain's parameters, (PARAMS_SIZE,)."""
        return np.array(self.about["params"], np.float64)

    def __len__(self) -> int:
        return len(self.groups["reading"])

    def __contains__(self, quantity: str) -> bool:
        return self._find(quantity) is not None

    def __getitem__(self, quantity: str) -> np.ndarray:
        """Return a quantity over the ticks, (n,) or (n, size).

        Raises:
            StorageError: The recording has no such quantity.
        """
        found = self._find(quantity)
        if found is None:
            known = ", ".join(f"{g}.{name}" for g in GROUPS for name in self._fields[g])
            raise StorageError(f"{self.path} has no {quantity!r}; it has {known}")
        group, name = found
        values = self.column(group, name)
        return values[self.kinds == TICK] if group in ("tick", "state") else values

    def column(self, group: str, name: str) -> np.ndarray:
        """Return a field over all of its group's records, (n,) or (n, size)."""
        kind, at, size = self._fields[group][name]
        values = self.groups[group][:, at : at + size]
        values = values if kind == "int64" else values.view(np.float64)
        return values[:, 0] if size == 1 else values

    def _find(self, quantity: str) -> tuple[str, str] | None:
        group, _, name = quantity.rpartition(".")
        for candidate in (group,) if group else ("state", "reading", "mailbox", "tick"):
            if name in self._fields.get(candidate, {}):
                return candidate, name
        return None

    def _table(self, group: str, parts: list[bytes]) -> np.ndarray:
        width = sum(size for _, _, size in self._fields[group].values())
        data = bytearray().join(part[len(CDR) :] for part in parts)  # compiled code wants to write
        return np.frombuffer(data, np.int64).reshape(len(parts), width)

    def _event(self, payload: dict[str, Any]) -> Event:
        ticks = self.column("tick", "index")[self.kinds == TICK]
        row = int(np.searchsorted(ticks, payload["index"]))
        return Event(1e-9 * payload["monotonic_ns"], row, str(payload["message"]))


def _read(file: IO[bytes]) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    # chunk by chunk: the package's reader takes seven seconds for a minute of ticks, this one
    from mcap.exceptions import McapError
    from mcap.opcode import Opcode
    from mcap.records import Channel, Chunk, Metadata
    from mcap.stream_reader import StreamReader, get_chunk_data_stream
    from zstandard import ZstdError, frame_content_size

    metadata: dict[str, str] = {}
    topics: dict[int, str] = {}
    parts: dict[int, list[bytes]] = {}
    try:
        # all of it at once: lengths that a damaged file claims then cost no memory
        whole = BytesIO(file.read())
        for record in StreamReader(whole, emit_chunks=True).records:
            if isinstance(record, Metadata) and record.name == METADATA:
                metadata = record.metadata
            elif isinstance(record, Channel):
                topics[record.id] = record.topic
            elif isinstance(record, Chunk):
                claimed = frame_content_size(record.data) if record.compression else 0
                if max(claimed, record.uncompressed_size) > _MAX_CHUNK:
                    raise ValueError(f"a chunk of {record.uncompressed_size} B")
                stream, size = get_chunk_data_stream(record, validate_crc=True)
                data, at = stream.read(size), 0
                while at < size:
                    code, length = _RECORD.unpack_from(data, at)
                    at += _RECORD.size
                    if code == Opcode.MESSAGE:
                        (channel,) = _CHANNEL.unpack_from(data, at)
                        parts.setdefault(channel, []).append(data[at + _MESSAGE : at + length])
                    at += length
    except (McapError, ZstdError) as error:
        raise ValueError(repr(error)) from None
    return metadata, {topics[channel]: found for channel, found in parts.items()}


_MAX_CHUNK = 64 << 20  # [B], sixteen times what is written
_RECORD = struct.Struct("<BQ")  # opcode, length
_CHANNEL = struct.Struct("<H")
_MESSAGE = 22  # [bytes] of a message before its data
