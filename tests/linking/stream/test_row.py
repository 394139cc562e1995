"""A row holds exactly what went in, and nothing damaged or foreign comes out of one."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES
from handrail.link.image_codec import (
    FRAMES_SKIPPED,
    AdaptiveCompressor,
    ImageEncoder,
    compress,
    raw,
)
from handrail.link.transition_codec import decode_row, encode_row, row_bytes
from handrail.spec import EnvSpec, slices_of
from handrail.transition import Source, Transition

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4, images={"wrist": (8, 6, 3)})
finite = st.floats(-1e6, 1e6, width=32)


def vectors(size: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, size, elements=finite)


rows = st.builds(
    Transition,
    episode=st.integers(0, 2**32 - 1),
    t=st.integers(0, 2**32 - 1),
    source=st.sampled_from([int(s) for s in Source]),
    state=vectors(SPEC.state),
    action=vectors(SPEC.action),
    policy_action=vectors(SPEC.action),
    filter_delta=vectors(SPEC.action),
    base_action=vectors(SPEC.action),
    base_pos=st.integers(0, 1000),
    base_valid=st.booleans(),
    reward=st.floats(-1e6, 1e6),
    terminated=st.booleans(),
    truncated=st.booleans(),
    success=st.booleans(),
    intervened=st.booleans(),
    end=st.booleans(),
    cost=st.floats(0.0, 1e6, width=32),
    violation=st.booleans(),
    images=st.fixed_dictionaries({"wrist": hnp.arrays(np.uint8, (8, 6, 3))}),
)


def same_row(a: Transition, b: Transition) -> bool:
    for name in (field.name for field in dataclasses.fields(Transition)):
        x, y = getattr(a, name), getattr(b, name)
        if name == "images":
            if set(x) != set(y) or any(not np.array_equal(x[k], y[k]) for k in x):
                return False
        elif isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.tobytes() != y.tobytes():
                return False
        elif x != y:
            return False
    return True


def example_row() -> Transition:
    z = np.zeros(SPEC.action, np.float32)
    image = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    state = np.arange(SPEC.state, dtype=np.float32)
    return Transition(3, 7, Source.ONLINE, state, z, z + 1, z + 2, z + 3, images={"wrist": image})


@pytest.mark.parametrize("code", [raw, compress])
@given(row=rows)
def test_row_comes_back_bit_for_bit(row: Transition, code: ImageEncoder) -> None:
    blob = encode_row(row, SPEC, code)
    assert len(blob) <= row_bytes(SPEC) if code is compress else len(blob) == row_bytes(SPEC)
    assert same_row(decode_row(blob, SPEC), row)
    assert blob[:DIGEST_BYTES] == blake3(blob[DIGEST_BYTES:]).digest()


def test_an_image_is_short_only_where_that_pays() -> None:
    flat, random = np.full((64, 48, 3), 7, np.uint8), np.random.default_rng(0)
    noise = random.integers(0, 256, flat.shape, np.uint8)
    spec = dataclasses.replace(SPEC, images={"a": flat.shape, "b": flat.shape})
    lengths = {}
    for name, a, b in (("flat", flat, flat), ("one", flat, noise), ("noise", noise, noise)):
        row = dataclasses.replace(example_row(), images={"a": a, "b": b})
        blob = encode_row(row, spec)
        assert same_row(decode_row(blob, spec), row)
        lengths[name] = len(blob)
    numbers = row_bytes(spec) - 2 * flat.nbytes
    assert lengths["noise"] == row_bytes(spec)
    assert numbers + flat.nbytes < lengths["one"] < numbers + 1.01 * flat.nbytes
    assert lengths["flat"] < numbers + 0.02 * flat.nbytes


def test_a_camera_whose_frames_do_not_get_shorter_is_tried_seldom() -> None:
    flat = np.zeros((64, 48, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape, np.uint8)
    code = AdaptiveCompressor()
    assert len(code("a", flat)) < len(code("b", noise)) == flat.nbytes
    tried = [len(code("b", flat)) < flat.nbytes for _ in range(FRAMES_SKIPPED + 2)]
    assert tried == [False] * FRAMES_SKIPPED + [True] * 2
    assert len(code("a", flat)) < flat.nbytes  # the other one is as before


def test_a_short_image_of_another_size_takes_no_memory() -> None:
    """A compressed frame may say that it is of any length; only the spec's is believed."""
    row = dataclasses.replace(example_row(), images={"wrist": np.zeros((8, 6, 3), np.uint8)})
    blob = encode_row(row, SPEC)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    head = blob[DIGEST_BYTES : row_bytes(SPEC) - 8 * 6 * 3]
    for frame in (bomb, bomb[:40], zstandard.ZstdCompressor().compress(bytes(143))):
        body = head + len(frame).to_bytes(4, "little") + frame
        wide = dataclasses.replace(SPEC, images={"wrist": (8, 6, 3), "z": (1 << 10, 1 << 10, 3)})
        with pytest.raises(ProtocolMismatch):  # too long, or not of this length
            decode_row(blake3(body).digest() + body, SPEC)
        assert row_bytes(wide) > len(body)
        tracemalloc.start()
        with pytest.raises(ProtocolMismatch):
            decode_row(blake3(body).digest() + body, wide)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


@given(st.data())
@settings(max_examples=300)
def test_any_changed_byte_of_a_row_is_refused(data: st.DataObject) -> None:
    blob = bytearray(encode_row(example_row(), SPEC, data.draw(st.sampled_from([raw, compress]))))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolMismatch):
        decode_row(blob, SPEC)


def resealed(blob: bytearray) -> Transition | None:
    """Return the row in a blob whose checksum is made right, None where it is refused."""
    blob[:DIGEST_BYTES] = blake3(blob[DIGEST_BYTES:]).digest()
    try:
        row = decode_row(blob, SPEC)
    except ProtocolMismatch:
        return None
    row.validate(SPEC)
    return row


@given(st.data())
@settings(max_examples=300)
def test_a_mutated_row_with_a_right_checksum_is_refused_or_a_valid_row(data: st.DataObject) -> None:
    """The checksum catches accidents; behind it the decoder must stand by itself."""
    blob = bytearray(encode_row(example_row(), SPEC, raw))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(DIGEST_BYTES, DIGEST_BYTES + 60))
        blob[place] = data.draw(st.integers(0, 255))
    row = resealed(blob)
    assert row is None or encode_row(row, SPEC, raw) == blob  # nothing was passed over


@given(st.data())
@settings(max_examples=300)
def test_a_mutated_short_row_with_a_right_checksum_is_refused_or_a_valid_row(
    data: st.DataObject,
) -> None:
    blob = bytearray(encode_row(example_row(), SPEC))
    assert len(blob) < row_bytes(SPEC)
    begin = row_bytes(SPEC) - 8 * 6 * 3
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(begin, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = blob[: len(blob) - data.draw(st.integers(0, 3))]
    row = resealed(blob)
    assert row is None or same_row(decode_row(encode_row(row, SPEC), SPEC), row)


@given(st.binary(max_size=400))
def test_noise_is_no_row(noise: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        decode_row(noise, SPEC)


@pytest.mark.parametrize("code", [raw, compress])
def test_a_truncated_or_longer_row_is_refused(code: ImageEncoder) -> None:
    blob = encode_row(example_row(), SPEC, code)
    body = blob[DIGEST_BYTES:]
    for wrong in (body[:-1], body + b"\0", b"", body[:40], body[:80]):
        with pytest.raises(ProtocolMismatch, match=r"bytes|behind|fit"):
            decode_row(blake3(wrong).digest() + wrong, SPEC)


def test_a_row_of_another_spec_is_refused() -> None:
    other = dataclasses.replace(SPEC, slices=slices_of(pose=7, wrench=2), action=5)
    assert row_bytes(other) == row_bytes(SPEC)
    with pytest.raises(ProtocolMismatch, match="header"):
        decode_row(encode_row(example_row(), SPEC), other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_refused_on_both_sides(bad: float) -> None:
    row = example_row()
    state = row.state.copy()
    state[2] = bad
    with pytest.raises(ProtocolMismatch, match="finite"):
        encode_row(dataclasses.replace(row, state=state), SPEC)
    blob = bytearray(encode_row(row, SPEC))
    blob[72 + 8 : 72 + 12] = np.float32(bad).tobytes()
    blob[:DIGEST_BYTES] = blake3(blob[DIGEST_BYTES:]).digest()
    with pytest.raises(ProtocolMismatch, match="finite"):
        decode_row(blob, SPEC)


@pytest.mark.parametrize(
    ("field", "value"), [("episode", -1), ("t", 2**32), ("source", 7), ("base_pos", -1)]
)
def test_a_number_out_of_range_is_refused(field: str, value: int) -> None:
    with pytest.raises(ProtocolMismatch, match=str(value)):
        encode_row(dataclasses.replace(example_row(), **{field: value}), SPEC)


def test_a_row_from_before_costs_and_blake3_is_read_as_ever() -> None:
    """Such a row holds an unused zero where the cost is now, and knows no violation."""
    row = example_row()
    header = struct.pack(
        "<4sHBBIIIIIId", b"HRR1", 32, 1, 1, SPEC.state, SPEC.action, 3, 7, 0, 0, 0.5
    )
    arrays = (row.state, row.action, row.policy_action, row.filter_delta, row.base_action)
    body = header + b"".join(a.tobytes() for a in arrays) + row.images["wrist"].tobytes()
    old = decode_row(hashlib.sha256(body).digest() + body, SPEC)
    assert same_row(old, dataclasses.replace(row, reward=0.5, end=True))
    assert (old.cost, old.violation) == (0.0, False)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 1e39])
def test_a_cost_is_finite_and_not_negative_on_both_sides(bad: float) -> None:
    with pytest.raises(ProtocolMismatch, match="cost"):
        encode_row(dataclasses.replace(example_row(), cost=bad), SPEC)
    blob = bytearray(encode_row(example_row(), SPEC))
    place = DIGEST_BYTES + struct.calcsize("<4sHBBIIIII")
    with np.errstate(over="ignore"):
        blob[place : place + 4] = np.float32(bad).tobytes()
    blob[:DIGEST_BYTES] = blake3(blob[DIGEST_BYTES:]).digest()
    with pytest.raises(ProtocolMismatch, match=r"cost|finite"):
        decode_row(blob, SPEC)


def test_decoded_arrays_are_read_only_and_of_a_plain_row_views_of_the_blob() -> None:
    short = decode_row(encode_row(example_row(), SPEC), SPEC)
    with pytest.raises(ValueError, match="read-only"):
        short.images["wrist"][0] = 0
    blob = encode_row(example_row(), SPEC, raw)
    row = decode_row(blob, SPEC)
    whole = np.frombuffer(blob, np.uint8)
    for array in (row.state, row.action, row.images["wrist"]):
        assert np.shares_memory(array, whole)
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 0
