"""Memory that host and client share: one anonymous file, its blocks and their sequence locks.

The file has no name anywhere (`memfd_create`), is handed over the socket and goes with its last
holder, so nothing is left behind however either side ends. Its size is sealed: a client can't
shrink it under the host. Every session gets a file of its own, so a client that lost its authority
writes where nobody reads.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import zlib
from dataclasses import dataclass, field

import numpy as np

from handrail.errors import DeviceLost, ProtocolMismatch

MAGIC = 0x4C494152444E4148  # "HANDRAIL"
_HEADER = 128  # bytes
_ALIGN = 64  # bytes, a cache line
_BLOCK_HEAD = 16  # bytes: sequence, checksum
_ATTEMPTS = 8  # a write takes ~10 µs; a writer that is off its core needs a pause, not a spin
_LAST = (1 << 64) - 1
_SEALS = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW


@dataclass(frozen=True)
class SegmentLayout:
    """Sizes of the blocks; both sides derive the same offsets from it."""

    request: int  # [values], float64 of a request
    snapshot: int  # [values], float64 of a snapshot
    goal_estimate: int  # [values], float64 of what the env may know about the scene
    images: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # (H, W, 3) uint8

    def offsets(self) -> dict[str, int]:
        """Return where each block begins, and under "" where the file ends [bytes]."""
        sizes = {
            "request": _BLOCK_HEAD + 8 * self.request,
            "snapshot": _BLOCK_HEAD + 8 * self.snapshot,
            "goal_estimate": _BLOCK_HEAD + 8 * self.goal_estimate,
            **{f"images.{name}": int(np.prod(shape)) for name, shape in self.images.items()},
        }
        offsets, at = {}, _HEADER
        for name, size in sizes.items():
            offsets[name] = at
            at += -(-size // _ALIGN) * _ALIGN
        offsets[""] = at
        return offsets


class SeqlockBlock:
    """Float64 values under a sequence lock: one writer, any readers, nobody waits.

    The sequence is odd while a write is under way. A checksum over sequence and values makes a torn
    copy visible on processors that reorder stores, and when the writer died in the middle.
    """

    def __init__(self, buffer: memoryview, offset: int, size: int) -> None:
        self._head = np.frombuffer(buffer, np.uint64, 2, offset)
        self._values = np.frombuffer(buffer, np.float64, size, offset + _BLOCK_HEAD)

    @property
    def sequence(self) -> int:
        """Number of the newest write, even when it is complete; 0 before the first."""
        return int(self._head[0])

    def write(self, values: np.ndarray) -> None:
        """Replace the values.

        Args:
            values: Flat float64 array of the block's size.

        Raises:
            ProtocolMismatch: Another size; nothing is written.
        """
        if values.shape != self._values.shape:
            raise ProtocolMismatch(
                f"this block holds {self._values.shape} values, got {values.shape}"
            )
        # the other side may have written anything there: an overflow would raise
        sequence = (((int(self._head[0]) | 1) + 1) & _LAST) or 2
        self._head[0] = sequence - 1
        self._values[:] = values
        self._head[1] = zlib.crc32(self._values.data, sequence & 0xFFFFFFFF)
        self._head[0] = sequence

    def read(self) -> tuple[int, np.ndarray] | None:
        """Return the sequence and a copy of the values, or None if no whole write was found."""
        for _ in range(_ATTEMPTS):
            sequence = int(self._head[0])
            if sequence == 0:
                return None
            if sequence & 1:
                continue
            values, checksum = self._values.copy(), int(self._head[1])
            torn = int(self._head[0]) != sequence
            if not torn and zlib.crc32(values.data, sequence & 0xFFFFFFFF) == checksum:
                return sequence, values
        return None


class Segment:
    """The shared file, mapped: heartbeat and counters, request, snapshot, goal estimate, images."""

    def __init__(self, fd: int, layout: SegmentLayout) -> None:
        """Map the file behind `fd`; the descriptor is closed, the mapping holds the file.

        Raises:
            DeviceLost: The file is not what the layout says.
        """
        offsets = layout.offsets()
        try:
            size = os.fstat(fd).st_size
            if size != offsets[""]:
                raise DeviceLost(f"shared memory has {size} bytes, expected {offsets['']}")
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        view = memoryview(self._map)
        self.layout = layout
        self._header = np.frombuffer(view, np.uint64, _HEADER // 8)
        self.request = SeqlockBlock(view, offsets["request"], layout.request)
        self.snapshot = SeqlockBlock(view, offsets["snapshot"], layout.snapshot)
        self.goal_estimate = SeqlockBlock(view, offsets["goal_estimate"], layout.goal_estimate)
        self.images = {
            name: np.frombuffer(
                view, np.uint8, int(np.prod(shape)), offsets[f"images.{name}"]
            ).reshape(shape)
            for name, shape in layout.images.items()
        }

    @staticmethod
    def create(layout: SegmentLayout) -> tuple[Segment, int]:
        """Return a new zeroed segment and a descriptor to hand to the client.

        The caller closes the descriptor.
        """
        fd = os.memfd_create("handrail", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, layout.offsets()[""])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        segment = Segment(os.dup(fd), layout)
        segment._header[0] = MAGIC
        return segment, fd

    @staticmethod
    def attach(fd: int, layout: SegmentLayout) -> Segment:
        """Return the segment behind a descriptor that came over the socket.

        Raises:
            DeviceLost: The file is not a host's.
        """
        segment = Segment(fd, layout)
        if int(segment._header[0]) != MAGIC:
            raise DeviceLost("shared memory does not begin with Handrail's mark")
        return segment

    @property
    def heartbeat(self) -> int:
        """Beats of the client so far."""
        return int(self._header[1])

    def beat(self) -> None:
        """Say that the client is alive."""
        self._header[1] += np.uint64(1)

    @property
    def refused(self) -> int:
        """Requests of this session that the host refused."""
        return int(self._header[2])

    @refused.setter
    def refused(self, count: int) -> None:
        self._header[2] = count

    @property
    def not_granted(self) -> int:
        """How many of them asked with an authority that the session was not granted."""
        return int(self._header[3])

    @not_granted.setter
    def not_granted(self, count: int) -> None:
        self._header[3] = count
