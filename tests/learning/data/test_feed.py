"""What reaches the device: the same minibatches either way, early, and every copy counted."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.transition import Source
from learner.algo.batch import Resident, gather
from learner.bases.protocol import BaseContext
from learner.config import BaseConfig, LearnerConfig
from learner.data.device_replay import CHUNK
from learner.data.prefetch import AHEAD, Prefetcher
from learner.data.replay import Replay
from learner.data.sharding import DeviceMesh
from learner.presets import preset
from learner.trainer import Trainer

SMALL: dict[str, Any] = {
    "hidden": (16, 16), "batch": 8, "total_steps": 200, "num_qs": 3, "collect": 0.0,
    "capacity": 1000,
}  # fmt: skip
COLUMNS = SPEC.state + 2 * SPEC.action + 3
KEY = jax.random.key(0)


def config_of(**changes: Any) -> LearnerConfig:
    return preset("rlpd", **SMALL, **changes)


def replay_of(config: LearnerConfig) -> Replay:
    replay = Replay(config, SPEC)
    for episode in range(4):
        for row in make_episode(episode, 9, Source.DEMO if episode < 2 else Source.ONLINE):
            replay.add(row)
    return replay


def feed_of(config: LearnerConfig) -> tuple[Replay, Prefetcher]:
    replay = replay_of(config)
    return replay, Prefetcher(config, replay, DeviceMesh(1), KEY, seed=5)


def trained(**changes: Any) -> Trainer:
    """Return a trainer after many compiled calls, some of them in a row, with rows between."""
    trainer = Trainer(config_of(**changes), BaseConfig(kind="none"), SPEC, seed=1)
    for episode in range(20):
        for row in make_episode(episode, 9, Source.DEMO if episode < 3 else Source.ONLINE):
            trainer.add(row)
        trainer.advance(trainer.due(), report=False)
    return trainer


def arrays_of(trainer: Trainer) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in trainer.state_dict()["arrays"].items()}


@pytest.mark.slow
def test_rows_on_the_device_give_the_same_learner_to_the_bit():
    assert arrays_of(trained(replay="host")) == arrays_of(trained(replay="device"))


def test_rows_on_the_device_follow_every_change_and_the_rings_wrap():
    config = config_of(replay="device")
    replay, feed = feed_of(config)
    for episode in range(10, 250):  # more than the ring holds
        for row in make_episode(episode, 9):
            replay.add(row)
        if episode % 7 == 0:
            slots = replay.views.online.members()[:3]
            context = BaseContext(np.full((3, SPEC.action), episode / 1e3), np.ones(3), True)
            replay.set_context(slots, context)
        packed = feed.packed(2 * episode)
        assert isinstance(packed, Resident)
        np.testing.assert_array_equal(packed.rows, replay.rows)
        now = gather(packed).now
        expected = replay.sample(config.batch, np.random.default_rng((5, 4, 2 * episode)), 2)
        np.testing.assert_array_equal(now, expected.now)
        feed.used_by(KEY[None])
    assert not np.isin(replay.rows[:, 0], (2, 3, 10)).any()  # the ring has come round


@pytest.mark.parametrize("replay", ["host", "device"])
def test_minibatches_depend_on_the_seed_and_the_updates_number_alone(replay):
    _, one = feed_of(config_of(replay=replay))
    _, other = feed_of(config_of(replay=replay))
    for update in (0, 2, 4, 6):
        one.packed(update)
        one.used_by(KEY[None])
    for update in (6, 2):
        # what the other feed did before, and which buffer it is at, doesn't matter
        a, b = (map(np.asarray, gather(feed.packed(update))) for feed in (one, other))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_call_returns_before_it_has_run_and_at_most_two_are_on_the_way():
    config = preset("rlpd", **{**SMALL, "hidden": (256, 256), "batch": 512, "num_qs": 10})
    trainer = Trainer(config, BaseConfig(kind="none"), SPEC, seed=1)
    for episode in range(4):
        for row in make_episode(episode, 9):
            trainer.add(row)
    trainer.advance(2)
    results = []
    for call in range(5):
        trainer.advance(2, report=False)
        assert trainer._metrics is not None
        results.append(trainer._metrics)
        assert not results[call].is_ready()  # it takes a hundred times what the call takes
        assert all(result.is_ready() for result in results[: max(0, call + 1 - AHEAD)])


@pytest.mark.parametrize("replay", ["host", "device"])
def test_every_copy_to_the_device_is_counted(replay, capfd):
    trainer = trained(replay=replay)
    for row in make_episode(50, 9):
        trainer.add(row)
    trainer.advance(2, report=False)
    rows = 2 * trainer.config.batch  # of a compiled call
    pairs = 4 * 2 * rows  # [byte], of two float32 or two int32 for each
    minibatches = (3, 4 * 2 * COLUMNS * rows + pairs) if replay == "host" else (2, 2 * pairs)
    arrived = (0, 0) if replay == "host" else (2, CHUNK * (4 + 4 * COLUMNS))
    for count in (0, 3):
        for row in make_episode(51, 9)[:count]:
            trainer.add(row)
        capfd.readouterr()
        with jax.transfer_guard_host_to_device("log"):
            trainer.advance(2, report=False)
        seen = capfd.readouterr().err.count("host-to-device transfer")
        copies, size = (a + b * (count > 0) for a, b in zip(minibatches, arrived, strict=True))
        assert seen == copies
        assert trainer.metrics()["sent_copies"] == copies / 2
        assert trainer.metrics()["sent_bytes"] == size / 2
