"""Blobs hold exactly what went in, and nothing damaged or foreign comes out of one."""

from __future__ import annotations

import dataclasses
import hashlib
import struct

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handrail.codec import (
    DIGEST_BYTES,
    DTYPES,
    decode_row,
    encode_row,
    pack,
    row_bytes,
    row_digest,
    seal,
    unpack,
)
from handrail.errors import ProtocolMismatch
from handrail.spec import EnvSpec, slices_of
from handrail.transition import FIELDS, Source, Transition

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

arrays = st.dictionaries(
    st.text(max_size=10),
    hnp.arrays(
        st.sampled_from(sorted(DTYPES)).map(np.dtype),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    max_size=4,
)
metas = st.dictionaries(
    st.text(max_size=8),
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | finite,
    max_size=4,
)


def same_row(a: Transition, b: Transition) -> bool:
    for name in FIELDS:
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


@given(rows)
def test_row_comes_back_bit_for_bit(row: Transition) -> None:
    blob = encode_row(row, SPEC)
    assert len(blob) == row_bytes(SPEC)
    assert same_row(decode_row(blob, SPEC), row)
    assert row_digest(blob) == blake3(blob[DIGEST_BYTES:]).digest()


@given(metas, arrays, st.binary(max_size=9))
def test_bundle_comes_back_bit_for_bit(
    meta: dict[str, object], tree: dict[str, np.ndarray], prefix: bytes
) -> None:
    blob = pack(meta, tree, prefix)
    assert blob[: len(prefix)] == prefix
    meta_back, tree_back = unpack(blob, len(prefix))
    assert meta_back == meta
    assert list(tree_back) == list(tree)
    for name, array in tree.items():
        assert tree_back[name].dtype == array.dtype
        assert tree_back[name].shape == array.shape
        assert tree_back[name].tobytes() == array.tobytes()
        assert not tree_back[name].flags.writeable


@given(st.data())
@settings(max_examples=300)
def test_any_changed_byte_of_a_row_is_refused(data: st.DataObject) -> None:
    blob = bytearray(encode_row(example_row(), SPEC))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolMismatch):
        decode_row(blob, SPEC)


@given(st.data())
@settings(max_examples=300)
def test_a_mutated_row_with_a_right_checksum_is_refused_or_a_valid_row(data: st.DataObject) -> None:
    """The checksum catches accidents; behind it the decoder must stand by itself."""
    blob = bytearray(encode_row(example_row(), SPEC))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(DIGEST_BYTES, DIGEST_BYTES + 60))
        blob[place] = data.draw(st.integers(0, 255))
    blob[:DIGEST_BYTES] = blake3(blob[DIGEST_BYTES:]).digest()
    try:
        row = decode_row(blob, SPEC)
    except ProtocolMismatch:
        return
    row.validate(SPEC)
    assert encode_row(row, SPEC) == blob  # nothing was passed over


@given(st.data())
@settings(max_examples=500)
def test_a_mutated_bundle_with_a_right_checksum_is_refused_or_takes_no_more_than_its_size(
    data: st.DataObject,
) -> None:
    blob = pack({"version": 3}, {"w": np.ones((3, 4), np.float32), "b": np.zeros(2)})
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(DIGEST_BYTES, 130))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 3))
    blob = seal(blob[: len(blob) - cut])
    try:
        _, tree = unpack(blob)
    except ProtocolMismatch:
        return
    assert sum(array.nbytes for array in tree.values()) <= len(blob)


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        decode_row(noise, SPEC)
    with pytest.raises(ProtocolMismatch):
        unpack(noise)


def test_a_truncated_or_longer_row_is_refused() -> None:
    blob = encode_row(example_row(), SPEC)
    for wrong in (blob[:-1], blob + b"\0", b"", blob[:DIGEST_BYTES]):
        with pytest.raises(ProtocolMismatch, match="bytes"):
            decode_row(wrong, SPEC)


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


def test_decoded_arrays_are_read_only_views_of_the_blob() -> None:
    blob = encode_row(example_row(), SPEC)
    row = decode_row(blob, SPEC)
    whole = np.frombuffer(blob, np.uint8)
    for array in (row.state, row.action, row.images["wrist"]):
        assert np.shares_memory(array, whole)
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 0


def test_a_bundle_is_a_copy_of_what_the_caller_gave() -> None:
    weights = np.ones(1000, np.float32)
    blob = pack({}, {"w": weights})
    weights[:] = 5
    assert (unpack(blob)[1]["w"] == 1).all()


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array(["text"]), np.zeros(2, "f4,f4"), np.zeros(1, complex)],
)
def test_an_array_that_is_not_numbers_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ProtocolMismatch, match="dtype"):
        pack({}, {"x": array})


def test_meta_that_is_not_plain_is_refused_and_numpy_scalars_are_taken() -> None:
    with pytest.raises(ProtocolMismatch, match="JSON"):
        pack({"x": object()}, {})
    assert unpack(pack({"x": np.float32(0.5), "n": np.int64(3)}, {}))[0] == {"x": 0.5, "n": 3}


def test_big_endian_and_strided_arrays_arrive_as_the_same_numbers() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4).T[::2]
    back = unpack(pack({}, {"x": array}))[1]["x"]
    assert back.dtype == np.dtype("<f4")
    assert (back == array).all()


def test_a_bundle_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolMismatch, match="bytes"):
        unpack(bytes(100), max_bytes=99)
