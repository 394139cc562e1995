"""The risk critic's array and its forward pass at control rate."""

import time

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from made_critic import made_critic

from controllers.kernel import kernel
from controllers.risk import (
    FEATURES,
    NUM_FEATURES,
    NUM_RELATIVE_FEATURES,
    SCRATCH_SIZE,
    features,
    position_in_box,
    predict_risk,
)
from controllers.rotation import exp
from handrail.errors import CheckpointError
from handrail.risk_critic.file import read_critic, write_critic
from handrail.risk_critic.format import (
    MAX_HEADS,
    MAX_INPUTS,
    MAX_LAYERS,
    MAX_SIZE,
    MAX_WIDTH,
    RISK_HEADER,
    check_critic,
    empty_critic,
    pack_critic,
    unpack_critic,
    version_of,
)
from learner.risk.network import critic_logits, pessimistic, standardise


def scratch():
    return np.full(SCRATCH_SIZE, np.nan, np.float32)


@pytest.mark.parametrize(
    ("inputs", "hidden", "heads"),
    [(22, (128, 128), 2), (25, (64,), 3), (5, (7, 9, 11), 1), (32, (256, 256, 256), 8)],
)
def test_kernel_says_what_jax_trains_and_judges(inputs, hidden, heads):
    critic = made_critic(inputs, hidden, heads)
    packed, work = pack_critic(critic), scratch()
    rows = 3.0 * np.random.default_rng(1).normal(size=(50, inputs))
    here = np.array([predict_risk(packed, row, work) for row in rows])
    judged = 1.0 / (1.0 + np.exp(-critic_logits(critic, rows).max(0)))
    x = standardise(
        jnp.asarray(rows, jnp.float32), *map(jnp.asarray, (critic.mean, critic.inverse_std))
    )
    layers = tuple((jnp.asarray(a), jnp.asarray(b)) for a, b in critic.layers)
    assert np.ptp(here) > 0.05
    assert np.abs(here - judged).max() < 1e-5
    assert np.abs(here - np.asarray(pessimistic(layers, x))).max() < 1e-5


def test_what_is_packed_comes_back():
    critic = made_critic(version=70_000)
    back = unpack_critic(pack_critic(critic))
    assert (back.version, back.heads) == (70_000, 2)
    assert back.threshold_on == pytest.approx(0.3)
    for a, b in zip(back.layers, critic.layers, strict=True):
        assert np.array_equal(a.kernel, b.kernel)
        assert np.array_equal(a.bias, b.bias)


def test_empty_critic_knows_no_risk():
    empty = empty_critic()
    check_critic(empty)
    assert predict_risk(empty, np.full(NUM_FEATURES, 1e9), scratch()) == 0.0
    assert unpack_critic(empty).heads == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_input_that_is_not_finite_is_as_risky_as_can_be(bad):
    row = np.zeros(22)
    row[7] = bad
    assert predict_risk(pack_critic(made_critic()), row, scratch()) == 1.0


def test_feature_that_never_varied_is_not_looked_at():
    critic = made_critic()
    critic.inverse_std[3] = 0.0
    packed, row = pack_critic(critic), np.zeros(22)
    before = predict_risk(packed, row, scratch())
    row[3] = 1e6
    assert predict_risk(packed, row, scratch()) == before


def spoilt(change):
    array = pack_critic(made_critic())
    change(array)
    return array


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (spoilt(lambda a: a.__setitem__(500, a[500] + 1.0)), "checksum"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.threshold_on, 0.9)), "checksum"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.version_low, 9)), "checksum"),
        (spoilt(lambda a: a.__setitem__(500, np.nan)), "NaN"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.heads, 3)), "values"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.heads, 2.5)), "whole numbers"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.inputs, -1)), "whole numbers"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.inputs, 33)), "inputs"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.layers, 60_000)), "hidden layers"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.widths, 257)), "wide"),
        (spoilt(lambda a: a.__setitem__(RISK_HEADER.format, 2)), "format 2"),
        (pack_critic(made_critic())[:-1], "values"),
        (pack_critic(made_critic())[:3], "16 values or more"),
        (pack_critic(made_critic()).astype(np.float64), "float32"),
        (pack_critic(made_critic()).reshape(1, -1), "flat"),
    ],
)
def test_damaged_critic_is_refused(array, words):
    with pytest.raises(CheckpointError, match=words):
        check_critic(array)


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(CheckpointError, match="thresholds"):
        pack_critic(made_critic()._replace(threshold_on=0.1, threshold_off=0.2))


def test_largest_critic_fits_the_buffers():
    largest = made_critic(MAX_INPUTS, (MAX_WIDTH,) * MAX_LAYERS, MAX_HEADS)
    assert pack_critic(largest).size == MAX_SIZE


def test_features_are_what_their_table_says():
    pose = np.array([0.5, 0.1, 0.2, *exp((3.0, 0.2, 0.1))])
    target = np.array([0.51, 0.1, 0.17, *exp((3.0, 0.2, 0.1))])
    twist, wrench = np.arange(6) + 0.5, np.arange(6) - 9.0
    out = np.full(NUM_FEATURES, np.nan)
    features(pose, twist, wrench, target, np.array([1.0, 2.0, 3.0]), 0.7, out)
    assert np.isnan(out[NUM_RELATIVE_FEATURES:]).all()
    position_in_box(pose, np.zeros(3), np.array([1.0, 0.0, 0.2]), out)
    assert out[FEATURES["error"]] == pytest.approx([0.01, 0.0, -0.03])
    assert out[FEATURES["rotation_error"]] == pytest.approx(np.zeros(3), abs=1e-9)
    assert np.array_equal(out[FEATURES["twist"]], twist)
    assert np.array_equal(out[FEATURES["wrench"]], wrench)
    assert out[FEATURES["stiffness"]].tolist() == [1.0, 2.0, 3.0]
    assert out[FEATURES["tank"]].tolist() == [0.7]
    assert out[FEATURES["place"]] == pytest.approx([0.0, 0.1, 0.1])
    assert sorted(i for part in FEATURES.values() for i in range(part.stop)[part]) == list(
        range(NUM_FEATURES)
    )


def test_file_comes_back_and_the_library_reads_it(tmp_path):
    path, packed = tmp_path / "risk" / "critic.safetensors", pack_critic(made_critic(version=7))
    write_critic(path, packed, {"from": "a test"})
    array, about = read_critic(path)
    assert np.array_equal(array, packed)
    assert (version_of(array), about) == (7, {"from": "a test"})
    assert np.array_equal(safetensors.numpy.load_file(path)["critic"], packed)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-4],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: data[:-4] + b"\0\0\0\0",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data.replace(b"handrail risk critic", b"something else, here"),
        lambda data: data + bytes(4 * MAX_SIZE + (1 << 21)),
    ],
)
def test_damaged_file_is_refused_in_words(tmp_path, spoil):
    path = tmp_path / "critic.safetensors"
    write_critic(path, pack_critic(made_critic()), {})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"critic\.safetensors"):
        read_critic(path)


@kernel
def many(weights: np.ndarray, rows: np.ndarray, work: np.ndarray) -> float:
    total = 0.0
    for i in range(len(rows)):
        total += predict_risk(weights, rows[i], work)
    return total


@pytest.mark.wallclock
def test_two_heads_of_128_are_affordable_at_1_khz():
    packed, work = pack_critic(made_critic(32, (128, 128))), scratch()
    rows = np.random.default_rng(0).normal(size=(500, 32))
    many(packed, rows, work)
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        many(packed, rows, work)
        took.append((time.perf_counter() - begin) / len(rows))
    assert min(took) < 12e-6
