"""Updates follow env steps exactly, and phases follow both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learner import governor, phases
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
        updates += governor.due(config, steps, updates)
        if steps < phases.collect_steps(config):
            exact = int(utd * steps) if config.needs_base else 0
        else:
            exact = int(utd * steps) + phases.warmup_updates(config)
        assert exact - every < updates <= exact


def test_phases_follow_one_another():
    assert phases.phase(CONFIG, 0, 0) == "collect"
    assert phases.phase(CONFIG, 49, 0) == "collect"
    assert phases.phase(CONFIG, 50, 0) == "warmup"
    assert phases.phase(CONFIG, 50, 199) == "warmup"  # 100 of the 50 steps, 100 of warm-up
    assert phases.phase(CONFIG, 50, 200) == "online"


def test_critics_learn_alone_about_a_base_only():
    scratch = preset("rlpd", total_steps=1000, collect=0.05, warmup=0.1)
    assert phases.phase(scratch, 50, 99) == "warmup"
    assert phases.phase(scratch, 50, 100) == "online"
    assert governor.allowed(scratch, 49) == 0
    assert governor.allowed(CONFIG, 49) == 98
    assert governor.allowed(CONFIG, 50) == phases.critic_updates(CONFIG)


def test_phases_scale_with_the_budget():
    long = LearnerConfig(total_steps=10_000, collect=0.05, warmup=0.1)
    assert phases.collect_steps(long) == 10 * phases.collect_steps(CONFIG)
    assert phases.warmup_updates(long) == 10 * phases.warmup_updates(CONFIG)
