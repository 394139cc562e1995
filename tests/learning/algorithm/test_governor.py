"""Updates follow env steps exactly, and phases follow both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learner.algo import schedule, utd_governor
from learner.config import LearnerConfig
from learner.presets import preset

CONFIG = LearnerConfig(total_steps=1000, collect=0.05, warmup=0.1, ramp=0.2)


@given(
    utd=st.sampled_from([0.5, 1.0, 2.0, 3.5, 8.0]),
    every=st.integers(1, 4),
    arrivals=st.lists(st.integers(0, 40), max_size=60),
    name=st.sampled_from(["resfit", "rlpd"]),
)
def test_updates_are_ratio_times_steps_plus_warmup_and_never_more(utd, every, arrivals, name):
    config = preset(name, total_steps=1000, utd=utd, actor_every=every)
    steps = updates = 0
    for count in arrivals:
        steps += count
        updates += utd_governor.due(config, steps, updates)
        if steps < schedule.collect_steps(config):
            exact = int(utd * steps) if config.needs_base else 0
        else:
            exact = int(utd * steps) + schedule.warmup_updates(config)
        assert exact - every < updates <= exact


def test_phases_follow_one_another():
    assert schedule.phase(CONFIG, 0, 0) == "collect"
    assert schedule.phase(CONFIG, 49, 0) == "collect"
    assert schedule.phase(CONFIG, 50, 0) == "warmup"
    assert schedule.phase(CONFIG, 50, 199) == "warmup"  # 100 of the 50 steps, 100 of warm-up
    assert schedule.phase(CONFIG, 50, 200) == "online"


def test_critics_learn_alone_about_a_base_only():
    scratch = preset("rlpd", total_steps=1000, collect=0.05, warmup=0.1)
    assert schedule.phase(scratch, 50, 99) == "warmup"
    assert schedule.phase(scratch, 50, 100) == "online"
    assert utd_governor.allowed(scratch, 49) == 0
    assert utd_governor.allowed(CONFIG, 49) == 98
    assert utd_governor.allowed(CONFIG, 50) == schedule.critic_updates(CONFIG)


def test_phases_scale_with_the_budget():
    long = LearnerConfig(total_steps=10_000, collect=0.05, warmup=0.1)
    assert schedule.collect_steps(long) == 10 * schedule.collect_steps(CONFIG)
    assert schedule.warmup_updates(long) == 10 * schedule.warmup_updates(CONFIG)
