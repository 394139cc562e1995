"""Trainer and policy together: exact resumption, what is published, and what is refused."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.errors import CheckpointError, ConfigError, Error, ProtocolMismatch
from handrail.link.weights_pubsub import WeightsPublisher
from handrail.transition import Source, Transition
from learner.config import BaseConfig, LearnerConfig
from learner.policy.load import load_policy
from learner.policy.policy import Policy
from learner.policy.weights import split_base, to_float16, to_float32
from learner.presets import preset
from learner.service.restore import checkpoint
from learner.store.checkpoint import Checkpoints
from learner.trainer import Trainer

SMALL: dict[str, Any] = {
    "hidden": (16, 16),
    "batch": 8,
    "total_steps": 200,
    "num_qs": 3,
    "collect": 0.1,
}
BASE = BaseConfig(chunk=4, execute=4, hidden=(16, 16), max_steps=100, evaluate_every=50, patience=1)
RESFIT = preset("resfit", **SMALL)


def demos(count: int = 4) -> list[Transition]:
    rows = []
    for episode in range(count):
        rows += make_episode(episode, 9, Source.DEMO)
    return rows


def online(first: int, count: int) -> list[Transition]:
    rows = []
    for episode in range(first, first + count):
        rows += make_episode(episode, 10, success=episode % 2 == 0)
    return rows


def trainer_with(rows: list[Transition], config: LearnerConfig = RESFIT, seed: int = 1) -> Trainer:
    trainer = Trainer(config, BASE, SPEC, seed)
    for row in rows:
        trainer.add(row)
    return trainer


def feed(trainer: Trainer, rows: list[Transition]) -> None:
    """Add rows one by one, with the updates that each allows."""
    for row in rows:
        trainer.add(row)
        if trainer.due():
            trainer.advance(trainer.due(), report=False)


def policy_of(trainer: Trainer) -> Policy:
    policy = Policy(SPEC, trainer.config, trainer.base_config)
    policy.load(*trainer.packet())
    return policy


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = trainer_with(demos())
    trainer.fit_base()
    feed(trainer, online(10, 5))
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "rlpd", "expo"])
def test_resumed_run_equals_the_uninterrupted_one_to_the_bit(name, tmp_path):
    config = preset(name, **SMALL, replay="device" if name == "expo" else "host")
    first, second = online(10, 5), online(15, 4)
    whole = trainer_with(demos(), config)
    whole.fit_base()
    feed(whole, first)
    checkpoint(whole, Checkpoints(tmp_path))
    feed(whole, second)

    resumed = trainer_with(demos() + first, config)
    resumed.load_state_dict(Checkpoints(tmp_path).load())
    feed(resumed, second)

    a, b = whole.state_dict(), resumed.state_dict()
    assert a["meta"] == b["meta"]
    assert same(a["arrays"], b["arrays"])
    assert np.array_equal(whole.replay.rows, resumed.replay.rows)


@pytest.mark.slow
def test_another_seed_gives_another_run():
    runs = []
    for seed in (1, 2):
        trainer = trainer_with(demos(), seed=seed)
        trainer.fit_base()
        feed(trainer, online(10, 3))
        runs.append(trainer.packet()[1])
    assert not same(*runs)


def test_nothing_is_recompiled_after_the_first_of_each_kind(trained):
    assert trained.compilations == 2
    policy = policy_of(trained)
    for mode in ("explore", "eval", "base"):
        for step in range(3):
            policy.act(np.full(3, step, np.float32), mode, step * 100)
    assert policy.compilations == 1


def test_a_second_learner_and_policy_of_one_config_find_everything_compiled(trained):
    policy_of(trained).act(np.zeros(3, np.float32))
    again = trainer_with([])
    assert again.compilations == trained.compilations == 2
    assert Policy(SPEC, RESFIT, BASE).compilations == 1


def test_updates_are_governed_to_the_update(trained):
    assert trained.env_steps == 50
    assert trained.updates == 2 * 50 + 20
    assert trained.metrics()["updates_per_step"] == pytest.approx(120 / 50)


def test_limit_is_respected_in_whole_calls():
    trainer = trainer_with(demos() + online(10, 3))
    trainer.fit_base()
    due = trainer.due()
    assert trainer.advance(5)["ran"] == 4
    assert trainer.due() == due - 4


def test_evaluation_rows_teach_nothing():
    trainer = trainer_with(demos())
    rows = len(trainer.replay)
    for row in make_episode(90, 5, Source.EVAL):
        trainer.add(row)
    assert (len(trainer.replay), trainer.env_steps, trainer.rows) == (rows, 0, 4 * 10 + 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "residual_hil", "expo"])
def test_running_policy_starts_as_the_base_to_the_bit(name):
    trainer = trainer_with(demos(), preset(name, **SMALL))
    trainer.fit_base()
    meta, arrays = trainer.packet()
    # as if the critics had warmed up and the ramp were over, with the actor still as it began
    for updates, step in ((0, 0), (10_000, 0), (10_000, 100), (10_000, 10_000)):
        acting, base = policy_of(trainer), policy_of(trainer)
        acting.load({**meta, "updates": updates}, arrays)
        for t in range(9):
            state = np.asarray([0, t, 1], np.float32)
            out = acting.act(state, "eval", step)
            expected = base.act(state, "base")
            assert out.action.tobytes() == expected.action.tobytes()
            assert out.action.tobytes() == out.base.action.tobytes()
            assert out.base.position == t % 4


def test_roll_outs_before_learning_are_the_base_with_noise():
    trainer = trainer_with(demos())
    trainer.fit_base()
    policy = policy_of(trainer)
    out = policy.act(np.zeros(3, np.float32), "explore", 0)
    moved = np.abs(out.action - out.base.action)
    assert 0 < moved.max() < 0.6
    assert policy.phase == "collect"


def test_packet_is_a_copy(trained):
    meta, arrays = trained.packet()
    before = {name: array.copy() for name, array in arrays.items()}
    for row in online(60, 1):
        trained.add(row)
    trained.advance(trained.due())
    assert same(arrays, before)
    assert json.loads(json.dumps(meta)) == meta
    assert {name.split("/")[0] for name in arrays} == {"actor", "ema_actor", "base", "normaliser"}
    base, rest = split_base(arrays)
    assert same({**base, **rest}, arrays)


def test_half_precision_rounds_weights_by_two_to_the_minus_eleven_and_hardly_moves_actions(trained):
    meta, arrays = trained.packet()
    base, rest = split_base(arrays)
    half = to_float16(rest)
    sent, whole = (sum(a.nbytes for a in packet.values()) for packet in (half, rest))
    assert 0.5 < sent / whole < 0.53
    got = to_float32({**half, **base})
    for name, array in arrays.items():
        assert got[name].dtype == np.float32, name
        tiny = np.finfo(np.float16).smallest_subnormal
        np.testing.assert_allclose(got[name], array, rtol=2**-11, atol=float(tiny), err_msg=name)
    assert got["normaliser/mean"].tobytes() == arrays["normaliser/mean"].tobytes()
    policy, rounded = policy_of(trained), Policy(SPEC, trained.config, trained.base_config)
    rounded.load(meta, got)
    states = np.random.default_rng(0).normal(0, 5, (50, SPEC.state)).astype(np.float32)
    moved = [np.abs(policy.act(s).action - rounded.act(s).action).max() for s in states]
    assert 0 < max(moved) < 5e-3  # of a half-range


def test_a_weight_too_large_for_half_precision_is_never_sent(trained):
    _, arrays = trained.packet()
    name = next(name for name in arrays if name.startswith("actor/"))
    half = to_float16({**arrays, name: arrays[name] + np.float32(1e6)})
    assert not np.isfinite(half[name]).all()
    with (
        WeightsPublisher(f"ipc://@handrail-test-{uuid.uuid4().hex}") as broadcast,
        pytest.raises(ProtocolMismatch, match="finite"),
    ):
        broadcast.publish("policy", {}, half)


@pytest.mark.slow
def test_critics_are_published_only_where_selection_needs_them():
    trainer = trainer_with(demos(), preset("ibrl", **SMALL))
    trainer.fit_base()
    assert any(name.startswith("critic/") for name in trainer.packet()[1])
    out = policy_of(trainer).act(np.zeros(3, np.float32), "eval", 199)
    assert out.base.valid


def test_weights_that_are_not_finite_are_never_published(trained):
    good = trained.packet()
    state = trained._state
    trained._state = state._replace(
        actor={name: leaf * np.float32(np.nan) for name, leaf in state.actor.items()}
    )
    try:
        assert trained.packet() is good or same(trained.packet()[1], good[1])
        assert trained.metrics()["refused"] >= 1
    finally:
        trained._state = state


def test_policy_refuses_weights_of_another_normaliser(trained):
    policy = policy_of(trained)
    version = policy.version
    meta, arrays = trained.packet()
    wrong = {**arrays, "normaliser/mean": arrays["normaliser/mean"] + np.float32(1)}
    with pytest.raises(ProtocolMismatch, match="refused"):
        policy.load(meta, wrong)
    assert policy.version == version


def test_policy_refuses_weights_of_another_size(trained):
    other = Policy(SPEC, replace(RESFIT, hidden=(8, 8)), BASE)
    with pytest.raises(CheckpointError, match="another method or size"):
        other.load(*trained.packet())
    with pytest.raises(Error, match="load a packet first"):
        other.act(np.zeros(3, np.float32))


@pytest.mark.slow
def test_rlpd_learns_without_base_and_without_demonstrations():
    trainer = trainer_with([], preset("rlpd", **SMALL))
    assert trainer.fit_base() == {}
    rows = [replace(row, base_valid=False) for row in online(10, 5)]
    feed(trainer, rows)
    assert trainer.updates == 100
    policy = policy_of(trainer)
    assert not policy.has_base
    assert np.isfinite(policy.act(np.zeros(3, np.float32)).action).all()
    assert policy.weights_meta is not None
    assert trainer.normaliser.hash == policy.weights_meta.normaliser_hash
    with pytest.raises(Error, match="no base policy"):
        policy.act(np.zeros(3, np.float32), "base")


def test_residual_without_base_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"base\.kind must be"):
        Trainer(RESFIT, BaseConfig(kind="none"), SPEC)
    with pytest.raises(Error, match="at least 2 demonstrations; there are 0"):
        trainer_with([]).fit_base()
    with pytest.raises(ConfigError, match=r"base\.ignore must be one of x"):
        Trainer(RESFIT, replace(BASE, ignore=("wrench",)), SPEC)


def test_a_time_limit_is_a_failure_only_where_the_state_has_a_clock():
    config = replace(RESFIT, timeout_is_failure=True)
    with pytest.raises(ConfigError, match="has no 'time_left'"):
        trainer_with([], config)
    clocked = replace(SPEC, slices={"x": (0, 2), "time_left": (2, 3)})
    assert Trainer(config, BASE, clocked, 1).config.timeout_is_failure


def test_demonstrations_get_the_bases_context_as_the_queue_would_hand_it_out():
    trainer = trainer_with([replace(row, base_valid=False) for row in demos()])
    trainer.fit_base()
    for slots in trainer.replay.episodes(Source.DEMO):
        position = trainer.replay.rows[slots, -3]
        assert trainer.replay.rows[slots, -2].all()
        steps = np.diff(position)
        assert ((steps == 1) | (position[1:] == 0)).all()
        assert position[0] == 0
        assert position.max() == 3


def test_trained_policy_loads_in_three_lines(trained, tmp_path):
    checkpoint(trained, Checkpoints(tmp_path / "checkpoints"))
    policy = load_policy(tmp_path)
    policy.reset()
    state = np.asarray([0, 1, 1], np.float32)
    action = policy.act(state).action
    expected = policy_of(trained).act(state).action
    assert action.tobytes() == expected.tobytes()


def test_checkpoint_of_another_config_or_place_is_refused(trained, tmp_path):
    checkpoint(trained, Checkpoints(tmp_path))
    state = Checkpoints(tmp_path).load()
    with pytest.raises(CheckpointError, match="config_hash"):
        trainer_with([], replace(RESFIT, discount=0.5)).load_state_dict(state)
    with pytest.raises(CheckpointError, match="seed"):
        trainer_with([], seed=9).load_state_dict(state)
    with pytest.raises(CheckpointError, match="rows"):
        trainer_with([]).load_state_dict(state)


def test_damaged_missing_and_newer_checkpoints_say_so(trained, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        Checkpoints(tmp_path).load()
    checkpoint(trained, Checkpoints(tmp_path))
    path = next(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="checksum differs"):
        Checkpoints(tmp_path).load()
    description = next(tmp_path.glob("*.json"))
    record = json.loads(description.read_text())
    description.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(CheckpointError, match="upgrade Handrail"):
        Checkpoints(tmp_path).load()
    description.write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoints(tmp_path).load()


def test_only_the_newest_checkpoints_are_kept(trained, tmp_path):
    folder = Checkpoints(tmp_path, keep=2)
    state = trained.state_dict()
    for step in range(4):
        folder.save({"meta": {**state["meta"], "env_steps": step}, "arrays": state["arrays"]})
    assert len(folder.names()) == 2
    assert folder.load()["meta"]["env_steps"] == 3
    assert len(list(tmp_path.iterdir())) == 4


def test_row_far_outside_is_finite_to_the_policy(trained):
    out = policy_of(trained).act(np.full(3, 1e9, np.float32), "eval", 10_000)
    assert np.isfinite(out.action).all()
