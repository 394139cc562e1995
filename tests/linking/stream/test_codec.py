"""A bundle holds exactly what went in, and nothing damaged or foreign comes out of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import DIGEST_BYTES, DTYPES, pack, seal, unpack

finite = st.floats(-1e6, 1e6, width=32)

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


@pytest.mark.slow
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
def test_noise_is_no_bundle(noise: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        unpack(noise)


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
