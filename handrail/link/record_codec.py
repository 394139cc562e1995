"""A record of the stream, which is a row or a label: its checksum, and what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

from handrail.episode_label import EpisodeLabel
from handrail.link.array_codec import DIGEST_BYTES, Buffer
from handrail.link.label_codec import MAX_LABEL, decode_label, is_label
from handrail.link.transition_codec import decode_row, row_checksum_ok
from handrail.spec import EnvSpec
from handrail.transition import Transition

Record: TypeAlias = "Transition | EpisodeLabel"


def checksum_ok(blob: Buffer) -> bool:
    """Return whether a row or label matches the checksum that it carries."""
    if is_label(blob):
        return hashlib.sha256(memoryview(blob)[DIGEST_BYTES:]).digest() == blob[:DIGEST_BYTES]
    return row_checksum_ok(blob)


def decode_record(blob: Buffer, spec: EnvSpec) -> Record:
    """Return the row or label in a blob.

    Raises:
        ProtocolMismatch: It is neither, damaged, or a row of another spec.
    """
    return decode_label(blob) if is_label(blob) else decode_row(blob, spec)


def sizes_fit(sizes: Iterable[int], row: int) -> bool:
    """Return whether records of these lengths can be rows of up to `row` bytes, or labels [B]."""
    return all(DIGEST_BYTES < size <= max(row, MAX_LABEL) for size in sizes)
