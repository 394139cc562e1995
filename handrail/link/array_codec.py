"""Named arrays to one blob and back: a checked header, raw buffers, a checksum over all of it.

Nothing here can run code: there is no pickle, an array's dtype comes from a short list, and sizes
are compared with the blob's length before memory is taken. Decoded arrays are read-only views of
the blob. The checksum is BLAKE3, as strong as sha256 and four times as fast on an image.

    bundle = prefix | checksum | header length u32 | header (msgpack) | arrays, each aligned to 64 B
"""

from __future__ import annotations

import math
import struct
from typing import Any, TypeAlias

import msgspec
import numpy as np
from blake3 import blake3

from handrail.errors import ProtocolMismatch

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Arrays: TypeAlias = "dict[str, np.ndarray]"

DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)  # little-endian numbers only; no object, string or structured dtype
MAX_BYTES = 1 << 30  # [B], a bundle larger than this is refused
MAX_ARRAYS = 100_000  # [-], in one bundle
MAX_HEADER = 16 << 20  # [B], of a bundle: parsed, a header takes some twenty times its length
MAX_DIMENSIONS = 8  # [-], of one array
DIGEST_BYTES = 32  # [B], of a checksum
_ALIGN = 64  # [B], a cache line
_LENGTH = struct.Struct("<I")


class _Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Name, dtype and shape of one array; its place follows from those before it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a bundle says of itself; `meta` is JSON text, so that it holds plain values only."""

    meta: str
    arrays: list[_Entry]


_header_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_Header)
_meta_decoder = msgspec.json.Decoder(dict[str, Any])


def pack(
    meta: dict[str, Any], arrays: Arrays, prefix: bytes = b"", sealed: bool = True
) -> bytearray:
    """Return one blob that holds copies of all arrays and the meta data.

    Args:
        meta: JSON-able values; numpy scalars are allowed.
        arrays: Name to array of any allowed dtype and shape.
        prefix: Bytes before the blob (a topic), not covered by the checksum.
        sealed: False leaves the checksum out, for a caller that calls `seal` in another thread.

    Raises:
        ProtocolMismatch: A dtype that isn't allowed, too many dimensions, or meta that isn't JSON.
    """
    entries, flat, size = [], [], 0
    for name, array in arrays.items():
        array = np.asarray(array)
        dtype = array.dtype.newbyteorder("<")
        if dtype.str not in DTYPES:
            raise ProtocolMismatch(
                f"array {name!r} has dtype {array.dtype}; allowed: {', '.join(sorted(DTYPES))}"
            )
        if array.ndim > MAX_DIMENSIONS:
            raise ProtocolMismatch(
                f"array {name!r} has {array.ndim} dimensions; at most {MAX_DIMENSIONS} are allowed"
            )
        entries.append(_Entry(name, dtype.str, array.shape))
        flat.append((array, dtype, size))
        size = _aligned(size + array.nbytes)
    try:
        text = msgspec.json.encode(meta, enc_hook=_plain).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(f"meta must be JSON-able: {error}") from None
    header = _header_encoder.encode(_Header(text, entries))
    start = len(prefix) + DIGEST_BYTES + _LENGTH.size
    if len(header) > MAX_HEADER:
        raise ProtocolMismatch(f"meta and names take {len(header)} B, at most {MAX_HEADER}")
    body = _aligned(start + len(header))
    if body + size > MAX_BYTES:
        raise ProtocolMismatch(f"a bundle of {body + size} B is over the limit of {MAX_BYTES} B")
    frame = bytearray(body + size)
    frame[: len(prefix)] = prefix
    frame[start - _LENGTH.size : start] = _LENGTH.pack(len(header))
    frame[start : start + len(header)] = header
    for array, dtype, offset in flat:
        if array.size:
            there = np.frombuffer(frame, dtype, array.size, body + offset)
            np.copyto(there.reshape(array.shape), array)
    if sealed:
        seal(frame, len(prefix))
    return frame


def seal(frame: bytearray, prefix: int = 0) -> bytearray:
    """Write the checksum of a bundle that was packed with `sealed=False`; return the bundle."""
    digest = blake3(memoryview(frame)[prefix + DIGEST_BYTES :]).digest()
    frame[prefix : prefix + DIGEST_BYTES] = digest
    return frame


def unpack(
    blob: Buffer, prefix: int = 0, max_bytes: int = MAX_BYTES
) -> tuple[dict[str, Any], Arrays]:
    """Return meta data and arrays of a bundle; the arrays are read-only views of it.

    Args:
        blob: What `pack` gave.
        prefix: Length of the prefix given to `pack` [B].
        max_bytes: A longer blob is refused before it is looked at [B].

    Raises:
        ProtocolMismatch: The blob is damaged or breaks a rule; nothing of it is returned.
    """
    view = memoryview(blob).toreadonly().cast("B")
    start = prefix + DIGEST_BYTES + _LENGTH.size
    if not start <= len(view) <= max_bytes:
        raise ProtocolMismatch(
            f"a bundle must have {start} to {max_bytes} bytes, this has {len(view)}"
        )
    digest = view[prefix : prefix + DIGEST_BYTES]
    if blake3(view[prefix + DIGEST_BYTES :]).digest() != digest:
        raise ProtocolMismatch(f"a bundle of {len(view)} B does not match its checksum")
    (length,) = _LENGTH.unpack_from(view, start - _LENGTH.size)
    if length > min(len(view) - start, MAX_HEADER):
        raise ProtocolMismatch(
            f"a bundle's header of {length} B is longer than the bundle or {MAX_HEADER} B"
        )
    try:
        header = _header_decoder.decode(view[start : start + length])
        meta = _meta_decoder.decode(header.meta)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolMismatch(f"a bundle's header is not readable: {error}") from None
    if len(header.arrays) > MAX_ARRAYS:
        raise ProtocolMismatch(f"{len(header.arrays)} arrays; at most {MAX_ARRAYS} are allowed")
    return meta, _views(view, header.arrays, _aligned(start + length))


def _views(view: memoryview, entries: list[_Entry], offset: int) -> Arrays:
    arrays: Arrays = {}
    for entry in entries:
        if entry.dtype not in DTYPES or len(entry.shape) > MAX_DIMENSIONS:
            raise ProtocolMismatch(f"array {entry.name!r}: {entry.dtype} {entry.shape} not allowed")
        dtype = np.dtype(entry.dtype)
        count = math.prod(entry.shape)
        if any(n < 0 for n in entry.shape) or count * dtype.itemsize > len(view) - offset:
            raise ProtocolMismatch(
                f"array {entry.name!r} of shape {entry.shape} does not fit in its bundle"
            )
        if entry.name in arrays:
            raise ProtocolMismatch(f"array {entry.name!r} is there twice")
        if count:
            array = np.frombuffer(view, dtype, count, offset).reshape(entry.shape)
        elif max(entry.shape) > MAX_BYTES:
            raise ProtocolMismatch(f"array {entry.name!r}: {entry.shape} not allowed")
        else:
            array = np.empty(entry.shape, dtype)
            array.flags.writeable = False
        arrays[entry.name] = array
        offset = _aligned(offset + count * dtype.itemsize)
    if offset != len(view):
        raise ProtocolMismatch(f"a bundle has {len(view)} B, its arrays end at {offset}")
    return arrays


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a plain value")
