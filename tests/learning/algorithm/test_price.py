"""Passivity-aware training: a step's cost is taken off its reward, at a price that may follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_rows import SPEC, make_episode, make_row

from handrail.config import from_dict
from handrail.errors import ConfigError
from handrail.transition import Source
from learner.algo.lagrangian import CostMultiplier
from learner.config import LearnerConfig
from learner.data.replay import Replay
from learner.episode_log import EpisodeLog
from learner.presets import preset


def config_of(**values) -> LearnerConfig:
    return preset("rlpd", total_steps=1000, **values)


def episode_of(number: int, cost: float, helped: bool = False, source: Source = Source.ONLINE):
    rows = [make_row(number, t, source, cost=cost / 4, intervened=helped) for t in range(3)]
    last = make_row(number, 3, source, cost=cost / 4, truncated=True)
    return [*rows, last, make_row(number, 4, source, end=True)]


def test_returns_lose_what_the_steps_cost():
    config = config_of(cost_weight=0.5, n_step=3, discount=0.9)
    replay = Replay(config, SPEC)
    slots = [
        replay.add(make_row(0, t, reward=1.0 + t, cost=float(t), truncated=t == 4))
        for t in range(5)
    ]
    replay.add(make_row(0, 5, end=True))
    wanted = sum(0.9**i * ((1.0 + i) - 0.5 * i) for i in range(3))
    assert replay.windows(np.array(slots[:1])).reward[0] == pytest.approx(wanted)
    replay.cost_multiplier = 2.0
    wanted = sum(0.9**i * ((1.0 + i) - 2.0 * i) for i in range(3))
    assert replay.windows(np.array(slots[:1])).reward[0] == pytest.approx(wanted)


def test_without_a_weight_cost_changes_no_bit():
    plain, costly = (Replay(config_of(), SPEC) for _ in range(2))
    rng = np.random.default_rng(0)
    for row in make_episode(0, 30, reward=0.1):
        plain.add(row)
        costly.add(replace(row, cost=float(rng.uniform(0, 9))))
    start = np.arange(29)
    assert (plain.windows(start).reward == costly.windows(start).reward).all()


def test_the_price_follows_the_budget_and_never_falls_below_nought():
    log = EpisodeLog()
    cost_multiplier = CostMultiplier(config_of(cost_budget=2.0, cost_lr=0.1), log)
    for number in range(5):
        before = cost_multiplier.value
        moved = []
        for row in episode_of(number, 4.0):
            log.add(row)
            moved.append(cost_multiplier.value != before)
        assert moved == sorted(moved), "it moves once, at the end"
    assert cost_multiplier.value == pytest.approx(5 * 0.1 * 2.0)
    assert cost_multiplier.last_cost == pytest.approx(4.0)
    for number in range(5, 30):
        for row in episode_of(number, 0.0):
            log.add(row)
    assert cost_multiplier.value == 0.0


def test_only_whole_episodes_that_the_policy_drove_alone_count():
    log = EpisodeLog()
    cost_multiplier = CostMultiplier(config_of(cost_budget=0.0, cost_lr=1.0), log)
    rows = [*episode_of(0, 8.0, helped=True), *episode_of(1, 8.0, source=Source.DEMO)]
    rows += episode_of(2, 8.0)[:2]  # cut
    for row in rows:
        log.add(row)
    assert cost_multiplier.value == 0.0
    for row in episode_of(3, 4.0):
        log.add(row)
    assert cost_multiplier.value == pytest.approx(4.0)


def test_a_fixed_weight_stays():
    log = EpisodeLog()
    cost_multiplier = CostMultiplier(config_of(cost_weight=0.3), log)
    for row in episode_of(0, 100.0):
        log.add(row)
    assert cost_multiplier.value == 0.3


def test_bad_values_are_refused():
    with pytest.raises(ConfigError, match="cost_budget"):
        config_of(cost_budget=-1.0)
    with pytest.raises(ConfigError, match="cost_weight"):
        from_dict(LearnerConfig, {"total_steps": 10, "cost_weight": -0.1}, "learner")
