"""Late labels: what a person, or a classifier, says of an episode after its rows were sent.

A label travels as the rows do: with a sequence number, through the spool, into the store. Rows are
never rewritten; a label stands behind them, and whoever reads the rows applies it. The newest label
of an episode counts.

    label = sha256 | magic, verdict, length of name, 0, episode, worth | name of the actor, UTF-8
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from handrail.codec import DIGEST_BYTES, Buffer
from handrail.errors import ProtocolMismatch
from handrail.row import decode_row, row_is_whole
from handrail.spec import EnvSpec
from handrail.transition import Transition

_LABEL = struct.Struct("<4sBBHId")
_MAGIC = b"HRL1"
_NAME_BYTES = 64  # [B], of an actor's name
MAX_LABEL = DIGEST_BYTES + _LABEL.size + _NAME_BYTES  # [B]


class Verdict(IntEnum):
    """What is said of an episode."""

    SUCCESS = 1  # its last step reached the goal
    FAILURE = 2  # it did not, whatever was said before
    ABORT = 3  # something was wrong with it: never train on it


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict on one recorded or training episode of one actor."""

    actor: str  # name of the actor
    episode: int  # [-], its number within the actor's run
    verdict: Verdict
    worth: float = 1.0  # reward that a success has and a failure hasn't

    def apply(self, last: Transition) -> Transition:
        """Return the episode's last step as the label has it; rows of an abort stay as they are."""
        success = self.verdict == Verdict.SUCCESS
        if self.verdict == Verdict.ABORT or success == last.success:
            return last
        reward = last.reward + (self.worth if success else -self.worth)
        return replace(last, reward=reward, success=success, terminated=success)


Record: TypeAlias = "Transition | Label"


def encode_label(label: Label) -> bytes:
    """Return a label as one blob of at most `MAX_LABEL` bytes, with its sha256.

    Raises:
        ProtocolMismatch: The name is empty or too long, or a number is out of range.
    """
    name = label.actor.encode()
    if not 0 < len(name) <= _NAME_BYTES:
        raise ProtocolMismatch(
            f"label.actor must have 1 to {_NAME_BYTES} bytes, {label.actor!r} has {len(name)}"
        )
    if not math.isfinite(label.worth):
        raise ProtocolMismatch(f"label.worth must be finite, got {label.worth}")
    try:
        verdict = Verdict(label.verdict)
        head = _LABEL.pack(_MAGIC, verdict, len(name), 0, label.episode, label.worth)
    except (struct.error, ValueError):
        raise ProtocolMismatch(
            f"label.verdict must be one of {[int(v) for v in Verdict]} and label.episode a "
            f"non-negative integer below 2^32, got {label.verdict} and {label.episode}"
        ) from None
    return hashlib.sha256(head + name).digest() + head + name


def decode_label(blob: Buffer) -> Label:
    """Return the label in a blob.

    Raises:
        ProtocolMismatch: The blob is damaged or not a label.
    """
    view = memoryview(blob).toreadonly().cast("B")
    start = DIGEST_BYTES + _LABEL.size
    if not start < len(view) <= MAX_LABEL:
        raise ProtocolMismatch(f"a label has {start + 1} to {MAX_LABEL} bytes, got {len(view)}")
    if hashlib.sha256(view[DIGEST_BYTES:]).digest() != view[:DIGEST_BYTES]:
        raise ProtocolMismatch("a label does not match its sha256")
    magic, verdict, length, unused, episode, worth = _LABEL.unpack_from(view, DIGEST_BYTES)
    if (magic, length, unused) != (_MAGIC, len(view) - start, 0) or not math.isfinite(worth):
        raise ProtocolMismatch(f"not a label: magic {magic}, name of {length} B, worth {worth}")
    try:
        return Label(str(view[start:], "utf-8"), episode, Verdict(verdict), worth)
    except ValueError as error:
        raise ProtocolMismatch(f"not a label: {error}") from None


def is_label(blob: Buffer) -> bool:
    """Return whether a blob says that it is a label; `decode_label` checks it."""
    return bytes(blob[DIGEST_BYTES : DIGEST_BYTES + len(_MAGIC)]) == _MAGIC


def is_whole(blob: Buffer) -> bool:
    """Return whether a row or label matches the checksum that it carries."""
    if is_label(blob):
        return hashlib.sha256(memoryview(blob)[DIGEST_BYTES:]).digest() == blob[:DIGEST_BYTES]
    return row_is_whole(blob)


def decode_record(blob: Buffer, spec: EnvSpec) -> Record:
    """Return the row or label in a blob.

    Raises:
        ProtocolMismatch: It is neither, damaged, or a row of another spec.
    """
    return decode_label(blob) if is_label(blob) else decode_row(blob, spec)


def sizes_fit(sizes: Iterable[int], row: int) -> bool:
    """Return whether records of these lengths can be rows of up to `row` bytes, or labels [B]."""
    return all(DIGEST_BYTES < size <= max(row, MAX_LABEL) for size in sizes)
