"""Updates follow env steps exactly, and phases follow both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learner import governor, phases
from learner.config import LearnerConfig

CONFIG = LearnerConfig(total_steps=1000, collect=0.05, warmup=0.1, ramp=0.2)


@given(
    utd=st.sampled_from([0.5, 1.0, 2.0, 3.5, 8.0]),
    every=st.integers(1, 4),
    arrivals=st.lists(st.integers(0, 40), max_size=60),
)
def test_updates_are_ratio_times_steps_plus_warmup_and_never_more(utd, every, arrivals):
    config = LearnerConfig(total_steps=1000, utd=utd, actor_every=every)
    steps = updates = 0
    for count in arrivals:
        steps += count
        updates += governor.due(config, steps, updates)
        if steps < phases.collect_steps(config):
            assert updates == 0
        else:
            exact = int(utd * steps) + phases.warmup_updates(config)
            assert exact - every < updates <= exact


def test_phases_follow_one_another():
    assert phases.phase(CONFIG, 0, 0) == "collect"
    assert phases.phase(CONFIG, 49, 0) == "collect"
    assert phases.phase(CONFIG, 50, 0) == "warmup"
    assert phases.phase(CONFIG, 50, 99) == "warmup"
    assert phases.phase(CONFIG, 50, 100) == "online"


def test_edits_grow_from_nothing_to_their_reach():
    gains = [phases.gain(CONFIG, step, 100) for step in (0, 49, 50, 150, 250, 900)]
    assert gains == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert phases.gain(CONFIG, 900, 99) == 0.0


def test_phases_scale_with_the_budget():
    long = LearnerConfig(total_steps=10_000, collect=0.05, warmup=0.1)
    assert phases.collect_steps(long) == 10 * phases.collect_steps(CONFIG)
    assert phases.warmup_updates(long) == 10 * phases.warmup_updates(CONFIG)
