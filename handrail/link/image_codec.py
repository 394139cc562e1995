"""A camera's frame without loss in fewer bytes: the line above is subtracted, the rest is zstd.

What is left of a line is small numbers, and zstd's entropy coder takes a fifth to a third off the
frame of a noisy camera, in which lz4 finds nothing and plain zstd a tenth
(docs/architecture.md). A frame that would hardly be shorter stays as it is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import zstandard

from handrail.errors import ProtocolMismatch

ZSTD_LEVEL = 1  # [-], of zstd: higher ones cost up to four times as much and save nothing on noise
MAX_COMPRESSED_SHARE = 15 / 16  # [-], of its length; a frame that takes more stays raw
FRAMES_SKIPPED = 63  # [frames], of a camera that are not tried after one that did not compress

EncodedImage: TypeAlias = "bytes | memoryview"  # a frame's bytes, compressed or raw
ImageEncoder: TypeAlias = (
    "Callable[[str, np.ndarray], EncodedImage]"  # takes a camera's name and (H, W, C) uint8
)


class _ThreadCodecs(threading.local):
    """Coders of one thread; zstd's are not for two at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _ThreadCodecs()


def raw(camera: str, frame: np.ndarray) -> EncodedImage:
    """Return a frame's bytes as they are."""
    return np.ascontiguousarray(frame).reshape(-1).data


def compress(camera: str, frame: np.ndarray) -> EncodedImage:
    """Return a frame's bytes, compressed where that pays; what is as long as the frame is raw.

    Args:
        camera: Whose it is; all are treated alike.
        frame: (H, W, C) uint8.
    """
    frame = np.ascontiguousarray(frame)
    steps = frame.copy()
    steps[1:] -= frame[:-1]
    compressed = _codecs.compressor.compress(steps.data)
    return (
        compressed if len(compressed) < MAX_COMPRESSED_SHARE * frame.nbytes else raw(camera, frame)
    )


class AdaptiveCompressor:
    """Does as `compress`, but seldom tries where it did not pay; for one thread."""

    def __init__(self) -> None:
        self._frames_to_skip: dict[str, int] = {}  # camera -> frames that are not tried

    def __call__(self, camera: str, frame: np.ndarray) -> EncodedImage:
        """Return a frame's bytes, compressed or raw."""
        left = self._frames_to_skip.get(camera, 0)
        if left:
            self._frames_to_skip[camera] = left - 1
            return raw(camera, frame)
        coded = compress(camera, frame)
        if len(coded) == frame.nbytes:
            self._frames_to_skip[camera] = FRAMES_SKIPPED
        return coded


def decompress(data: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """Return the frame in what `compress` gave; a read-only view of it where that is the frame.

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
        stated = zstandard.frame_content_size(data)
        if stated != size:
            raise ProtocolMismatch(f"a frame of {size} B says that it has {stated} B")
        steps = _codecs.decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ProtocolMismatch(f"a frame is not readable: {error}") from None
    frame = np.add.accumulate(np.frombuffer(steps, np.uint8).reshape(shape), axis=0, dtype=np.uint8)
    frame.flags.writeable = False
    return frame
