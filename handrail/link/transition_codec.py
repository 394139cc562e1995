"""A transition to one blob and back, in the fixed layout that the `EnvSpec` implies.

A row of numbers costs microseconds. Nothing here can run code, and nothing takes more memory than
the spec says.

    row            = checksum | fixed header | state, the four actions as float32 | images by name
    compressed row = the same, each image behind its length u32, compressed where that pays
"""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
from blake3 import blake3

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES, Arrays, Buffer
from handrail.link.image_codec import EncodedImage, ImageEncoder, compress, decompress, raw
from handrail.spec import EnvSpec
from handrail.transition import LARGEST, Source, Transition

# magic, flags, source, number of images, S, A, episode, t, base_pos, cost, reward
# Rows from before costs hold zeros there, which say cost 0 and no violation: they are read as ever.
_ROW = struct.Struct("<4sHBBIIIIIfd")
_RAW_MAGIC = b"HRR2"
_COMPRESSED_MAGIC = b"HRR3"
_SHA256_MAGIC = b"HRR1"  # raw rows from before BLAKE3: they are read as ever
_LENGTH = struct.Struct("<I")
_BODY = DIGEST_BYTES + _ROW.size
_FLAGS = ("base_valid", "terminated", "truncated", "success", "intervened", "end", "violation")
_SOURCES = frozenset(int(s) for s in Source)


def row_bytes(spec: EnvSpec) -> int:
    """Return the length of a raw row of this spec, the longest that there is [B]."""
    images = sum(math.prod(shape) for shape in spec.images.values())
    return _BODY + 4 * (spec.state + 4 * spec.action) + images


HEADER_BYTES = _BODY  # [B], of a row before its arrays


def read_header(blob: Buffer) -> tuple[int, int, int, float, bool, bool, bool]:
    """Return what a row's header says, unchecked, for listings that don't read the whole row.

    Returns:
        Episode, t, source, reward, success, intervened, end.
    """
    _, flags, source, _, _, _, episode, t, _, _, reward = _ROW.unpack_from(blob, DIGEST_BYTES)
    return episode, t, source, reward, bool(flags & 8), bool(flags & 16), bool(flags & 32)


def row_checksum_ok(blob: Buffer) -> bool:
    """Return whether a row matches the checksum that it carries."""
    view = memoryview(blob)
    body = view[DIGEST_BYTES:]
    hashed = hashlib.sha256 if body[: len(_SHA256_MAGIC)] == _SHA256_MAGIC else blake3
    return hashed(body).digest() == view[:DIGEST_BYTES]


def encode_row(row: Transition, spec: EnvSpec, encode_image: ImageEncoder = compress) -> bytes:
    """Return a transition as one blob of at most `row_bytes(spec)` bytes, with its checksum.

    Args:
        row: What to write down.
        spec: What it must fit.
        encode_image: What is done to images; with `raw` the row is as long as all others.

    Raises:
        ProtocolMismatch: The row doesn't fit the spec.
    """
    row.validate(spec)
    flags = sum(1 << bit for bit, name in enumerate(_FLAGS) if getattr(row, name))
    images = [(name, row.images[name]) for name in sorted(spec.images)]
    coded = [encode_image(name, image) for name, image in images]
    saved = sum(image.nbytes for _, image in images) - sum(map(len, coded))
    if saved > _LENGTH.size * len(coded):
        magic, frames = _COMPRESSED_MAGIC, [part for frame in coded for part in _with_length(frame)]
    else:
        magic, frames = _RAW_MAGIC, [raw(*image) for image in images] if saved else coded
    try:
        header = _ROW.pack(
            magic,
            flags,
            row.source,
            len(row.images),
            spec.state,
            spec.action,
            row.episode,
            row.t,
            row.base_pos,
            row.cost,
            row.reward,
        )
    except struct.error as error:
        raise ProtocolMismatch(
            f"transition: source, episode, t and base_pos must be small non-negative integers, got "
            f"{row.source}, {row.episode}, {row.t}, {row.base_pos} ({error})"
        ) from None
    if row.source not in _SOURCES:
        raise ProtocolMismatch(f"transition.source must be one of {_SOURCES}, got {row.source}")
    vectors = (row.state, row.action, row.policy_action, row.filter_delta, row.base_action)
    # In one piece: BLAKE3 takes parts a third slower.
    body = b"".join((header, np.concatenate(vectors).tobytes(), *frames))
    return blake3(body).digest() + body


def _with_length(frame: EncodedImage) -> tuple[bytes, EncodedImage]:
    return _LENGTH.pack(len(frame)), frame


def decode_row(blob: Buffer, spec: EnvSpec) -> Transition:
    """Return the transition in a blob; its arrays are read-only.

    They are views of the blob, but for images that were compressed.

    Args:
        blob: What `encode_row` gave, raw or compressed, or a row of an older format.
        spec: What it must fit; bounds the memory that images may take.

    Raises:
        ProtocolMismatch: The blob is damaged, not a row, not of this spec, or holds a NaN.
    """
    size, view = row_bytes(spec), memoryview(blob).toreadonly().cast("B")
    if not _BODY <= len(view) <= size:
        raise ProtocolMismatch(f"a row of this spec has up to {size} bytes, this has {len(view)}")
    if not row_checksum_ok(view):
        raise ProtocolMismatch("a row does not match its checksum")
    magic, flags, source, images, s, a, episode, t, base_pos, cost, reward = _ROW.unpack_from(
        view, DIGEST_BYTES
    )
    compressed = magic == _COMPRESSED_MAGIC
    kind = magic if magic in (_COMPRESSED_MAGIC, _SHA256_MAGIC) else _RAW_MAGIC
    given = (magic, flags >> len(_FLAGS), images, s, a, cost >= 0.0, source in _SOURCES)
    right = (kind, 0, len(spec.images), spec.state, spec.action, True, True)
    if given != right:
        raise ProtocolMismatch(
            "a row's header (magic, unknown flags, images, S, A, cost, known source) must "
            f"be {right}, got {given}"
        )
    start = _BODY + 4 * (s + 4 * a)
    if len(view) < start if compressed else len(view) != size:
        raise ProtocolMismatch(f"a row of this spec has {size} bytes, this has {len(view)}")
    numbers = np.frombuffer(view, "<f4", s + 4 * a, _BODY)
    finite = np.isfinite(numbers).all() and abs(reward) <= LARGEST and math.isfinite(cost)
    if not finite:
        raise ProtocolMismatch("a row must be finite, it holds a NaN or an infinity")
    frames = (_compressed_frames if compressed else _raw_frames)(view[start:], spec)
    return Transition(
        episode,
        t,
        source,
        numbers[:s],
        numbers[s : s + a],
        numbers[s + a : s + 2 * a],
        numbers[s + 2 * a : s + 3 * a],
        numbers[s + 3 * a :],
        base_pos,
        base_valid=bool(flags & 1),
        reward=reward,
        terminated=bool(flags & 2),
        truncated=bool(flags & 4),
        success=bool(flags & 8),
        intervened=bool(flags & 16),
        end=bool(flags & 32),
        violation=bool(flags & 64),
        cost=cost,
        images=frames,
    )


def _raw_frames(view: memoryview, spec: EnvSpec) -> Arrays:
    frames: Arrays = {}
    at = 0
    for name in sorted(spec.images):
        shape = tuple(spec.images[name])
        frames[name] = np.frombuffer(view, np.uint8, math.prod(shape), at).reshape(shape)
        at += frames[name].nbytes
    return frames


def _compressed_frames(view: memoryview, spec: EnvSpec) -> Arrays:
    frames: Arrays = {}
    at = 0
    for name in sorted(spec.images):
        begin = at + _LENGTH.size
        length = _LENGTH.unpack_from(view, at)[0] if begin <= len(view) else len(view) + 1
        if length > len(view) - begin:
            raise ProtocolMismatch(f"image {name!r} of a compressed row does not fit in it")
        at = begin + length
        frames[name] = decompress(view[begin:at], tuple(spec.images[name]))
    if at != len(view):
        raise ProtocolMismatch(f"a compressed row has {len(view) - at} B behind its images")
    return frames
