"""Late labels: what a person, or a classifier, says of an episode after its rows were sent.

A label travels as the rows do: with a sequence number, through the spool, into the store. Rows are
never rewritten; a label stands behind them, and whoever reads the rows applies it. The newest label
of an episode counts.

    label = sha256 | magic, outcome, length of name, 0, episode, success reward | actor, UTF-8
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES, Buffer
from handrail.transition import Transition

_LABEL = struct.Struct("<4sBBHId")
_MAGIC = b"HRL1"
_NAME_BYTES = 64  # [B], of an actor's name
MAX_LABEL = DIGEST_BYTES + _LABEL.size + _NAME_BYTES  # [B]


class Outcome(IntEnum):
    """What is said of an episode."""

    SUCCESS = 1  # its last step reached the goal
    FAILURE = 2  # it did not, whatever was said before
    ABORT = 3  # something was wrong with it: never train on it


@dataclass(frozen=True, slots=True)
class EpisodeLabel:
    """The outcome of one recorded or training episode of one actor, as it was said afterwards."""

    actor: str  # name of the actor
    episode: int  # [-], its number within the actor's run
    outcome: Outcome
    success_reward: float = 1.0  # reward that a success has and a failure hasn't

    def apply(self, last: Transition) -> Transition:
        """Return the episode's last step as the label has it; rows of an abort stay as they are."""
        success = self.outcome == Outcome.SUCCESS
        if self.outcome == Outcome.ABORT or success == last.success:
            return last
        reward = last.reward + (self.success_reward if success else -self.success_reward)
        return replace(last, reward=reward, success=success, terminated=success)


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
