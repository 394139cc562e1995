"""A camera's frame without loss in fewer bytes: the line above is subtracted, the rest is zstd.

What is left of a line is small numbers, and zstd's entropy coder takes a fifth to a third off the
frame of a noisy camera, in which lz4 finds nothing and plain zstd a tenth (benchmarks/frames.py). A
frame that would hardly be shorter stays as it is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import zstandard

from handrail.errors import ProtocolMismatch

LEVEL = 1  # [-], of zstd: higher ones cost up to four times as much and save nothing on noise
WORTH = 15 / 16  # [-], a frame is kept short only below this share of its length
SELDOM = 63  # [frames], of a camera that are not tried after one that did not get shorter

Coded: TypeAlias = "bytes | memoryview"  # a frame's bytes, short or not
Coder: TypeAlias = "Callable[[str, np.ndarray], Coded]"  # takes a camera's name and (H, W, C) uint8


class _Coders(threading.local):
    """Coders of one thread; zstd's are not for two at once."""

    def __init__(self) -> None:
        self.shorten = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        self.restore = zstandard.ZstdDecompressor()


_coders = _Coders()


def plain(camera: str, frame: np.ndarray) -> Coded:
    """Return a frame's bytes as they are."""
    return np.ascontiguousarray(frame).reshape(-1).data


def shorten(camera: str, frame: np.ndarray) -> Coded:
    """Return a frame's bytes, short where that pays; what is as long as the frame is the frame.

    Args:
        camera: Whose it is; all are treated alike.
        frame: (H, W, C) uint8.
    """
    frame = np.ascontiguousarray(frame)
    steps = frame.copy()
    steps[1:] -= frame[:-1]
    short = _coders.shorten.compress(steps.data)
    return short if len(short) < WORTH * frame.nbytes else plain(camera, frame)


class Shortener:
    """Does as `shorten`, but seldom tries where it did not pay; for one thread."""

    def __init__(self) -> None:
        self._left_alone: dict[str, int] = {}  # camera -> frames that are not tried

    def __call__(self, camera: str, frame: np.ndarray) -> Coded:
        """Return a frame's bytes, short or not."""
        left = self._left_alone.get(camera, 0)
        if left:
            self._left_alone[camera] = left - 1
            return plain(camera, frame)
        coded = shorten(camera, frame)
        if len(coded) == frame.nbytes:
            self._left_alone[camera] = SELDOM
        return coded


def restore(data: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """Return the frame in what `shorten` gave; a read-only view of it where that is the frame.

    Args:
        data: Of one frame, no more.
        shape: (H, W, C) of the frame; says how much memory it may take.

    Raises:
        ProtocolMismatch: It is not a frame of this shape.
    """
    size = math.prod(shape)
    if len(data) == size:
        return np.frombuffer(data, np.uint8).reshape(shape)
    try:
        told = zstandard.frame_content_size(data)
        if told != size:
            raise ProtocolMismatch(f"a frame of {size} B says that it has {told} B")
        steps = _coders.restore.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ProtocolMismatch(f"a frame is not readable: {error}") from None
    frame = np.add.accumulate(np.frombuffer(steps, np.uint8).reshape(shape), axis=0, dtype=np.uint8)
    frame.flags.writeable = False
    return frame
