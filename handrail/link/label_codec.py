"""A late label as one blob.

label = sha256 | magic, outcome, length of name, 0, episode, success reward | actor, UTF-8
"""

from __future__ import annotations

import hashlib
import math
import struct

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES, Buffer

_LABEL = struct.Struct("<4sBBHId")
_MAGIC = b"HRL1"
_NAME_BYTES = 64  # [B], of an actor's name
MAX_LABEL = DIGEST_BYTES + _LABEL.size + _NAME_BYTES  # [B]


def encode_label(label: EpisodeLabel) -> bytes:
    """Return a label as one blob of at most `MAX_LABEL` bytes, with its sha256.

    Raises:
        ProtocolMismatch: The name is empty or too long, or a number is out of range.
    """
    name = label.actor.encode()
    if not 0 < len(name) <= _NAME_BYTES:
        raise ProtocolMismatch(
            f"label.actor must have 1 to {_NAME_BYTES} bytes, {label.actor!r} has {len(name)}"
        )
    if not math.isfinite(label.success_reward):
        raise ProtocolMismatch(f"label.success_reward must be finite, got {label.success_reward}")
    try:
        outcome = Outcome(label.outcome)
        head = _LABEL.pack(_MAGIC, outcome, len(name), 0, label.episode, label.success_reward)
    except (struct.error, ValueError):
        raise ProtocolMismatch(
            f"label.outcome must be one of {[int(v) for v in Outcome]} and label.episode a "
            f"non-negative integer below 2^32, got {label.outcome} and {label.episode}"
        ) from None
    return hashlib.sha256(head + name).digest() + head + name


def decode_label(blob: Buffer) -> EpisodeLabel:
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
    magic, outcome, length, unused, episode, reward = _LABEL.unpack_from(view, DIGEST_BYTES)
    if (magic, length, unused) != (_MAGIC, len(view) - start, 0) or not math.isfinite(reward):
        raise ProtocolMismatch(f"not a label: magic {magic}, name of {length} B, reward {reward}")
    try:
        return EpisodeLabel(str(view[start:], "utf-8"), episode, Outcome(outcome), reward)
    except ValueError as error:
        raise ProtocolMismatch(f"not a label: {error}") from None


def is_label(blob: Buffer) -> bool:
    """Return whether a blob says that it is a label; `decode_label` checks it."""
    return bytes(blob[DIGEST_BYTES : DIGEST_BYTES + len(_MAGIC)]) == _MAGIC
