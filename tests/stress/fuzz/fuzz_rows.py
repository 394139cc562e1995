"""Rows as fuzzing's targets: whole, and behind a right checksum."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from blake3 import blake3
from fuzz_messages import SPEC, make_row, seal
from fuzz_mutate import Parts, damage
from fuzz_target import Garbage, Target, hold

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES
from handrail.link.image_codec import raw
from handrail.link.transition_codec import decode_row, encode_row, row_bytes
from handrail.transition import Source, Transition

IMAGES = row_bytes(SPEC) - 8 * 6 * 3  # [B], of a row before its image


def smooth(row: Transition) -> Transition:
    """Return a row with an image that can be shortened."""
    image = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    return dataclasses.replace(row, images={"wrist": image + np.uint8(row.t)})


class Row(Target):
    """Plain, short and old rows of a spec, with their checksum as it came."""

    name, share, refusals = "row", 800, (ProtocolMismatch,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = Random(2)
        blobs = [encode_row(make_row(rng, t), SPEC, raw) for t in range(6)]
        old = blobs[0][:DIGEST_BYTES] + b"HRR1" + blobs[0][DIGEST_BYTES + 4 :]
        short = [encode_row(smooth(make_row(rng, t)), SPEC) for t in range(4)]
        self.originals = [(blob,) for blob in (*blobs, *short, seal(old, sha256))]

    def passed(self, parts: Parts) -> bool:
        (data,) = parts
        if data[32:36] == b"HRR3":
            return IMAGES + 4 < len(data) <= row_bytes(SPEC)
        return len(data) == row_bytes(SPEC) and data[32:36] in (b"HRR1", b"HRR2")

    def take(self, parts: Parts) -> Any:
        return decode_row(parts[0], SPEC)

    def verify(self, parts: Parts, value: Any) -> None:
        hold(parts in self.originals, "a row was taken that does not match its checksum")


class SealedRow(Row):
    """The same with a right checksum."""

    name, share = "row sealed", 1500
    places = (32, 36, 38, 39, 40, 44, 48, 52, 56, 60, 64, 68, 76, 80)  # of the header's fields
    short_places = (32, IMAGES, IMAGES + 4, IMAGES + 8, IMAGES + 9, IMAGES + 10, IMAGES + 13)

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        short = data[32:36] == b"HRR3"
        places = self.short_places if short else self.places
        data = damage(data, rng, [o[0] for o in self.originals], places)
        if not short and rng.random() < 0.8:  # what changes the length is refused at once
            data = data[: row_bytes(SPEC)].ljust(row_bytes(SPEC), b"\0")
        return (seal(data, sha256 if data[32:36] == b"HRR1" else blake3),)

    def verify(self, parts: Parts, value: Any) -> None:
        (data,) = parts
        try:
            again = encode_row(value, SPEC, raw)  # judges shapes, dtypes and values
        except ProtocolMismatch as error:
            raise Garbage(f"a row was taken that is not of the spec: {error}") from None
        same = len(data) if data[32:36] != b"HRR3" else IMAGES  # a frame has many short forms
        hold(again[36:same] == data[36:same], "the row does not come back")
        hold(value.source in tuple(Source), f"source {value.source}")
        arrays = [getattr(value, field.name) for field in fields(Transition)]
        arrays += value.images.values()
        for array in arrays:
            if isinstance(array, np.ndarray):
                hold(not array.flags.writeable, "an array of a row can be written")


TARGETS = (Row, SealedRow)
