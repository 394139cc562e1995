"""The reach of edits grows, and shrinks where they do worse than the base did."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_rows import make_row

from handrail.transition import Source
from learner.config import LearnerConfig
from learner.trust import Ramp, Trust, begun, chance, gain

LENGTH = 5  # [steps], of an episode
CONFIG = LearnerConfig(total_steps=1000, collect=0.1, warmup=0.1, ramp=0.2, retreat=0.05)


def feed(trust: Trust, successes: list[bool], first: int = 0, helped: bool = False) -> None:
    for number, success in enumerate(successes, first):
        for t in range(LENGTH):
            last = t == LENGTH - 1
            row = make_row(
                number,
                t,
                success=last and success,
                terminated=last and success,
                truncated=last and not success,
                intervened=helped and t == 2,
            )
            trust.add(row, 0)
        trust.add(make_row(number, LENGTH, end=True), 0)


def after_base(wins: int) -> Trust:
    """Return what follows a base that won so many of 20."""
    trust = Trust(CONFIG)
    feed(trust, [True] * wins + [False] * (20 - wins))
    return trust


def test_edits_grow_from_nothing_to_their_reach():
    ramp = begun(CONFIG)
    gains = [gain(CONFIG, ramp, step, 300) for step in (0, 99, 100, 200, 300, 900)]
    assert gains == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert gain(CONFIG, ramp, 900, 299) == 0.0
    assert gain(CONFIG, Ramp(0.25, 500), 600, 300) == 0.75


def test_chance_of_the_tail_is_that_of_drawing_it():
    rng = np.random.default_rng(0)
    rates = rng.beta(14.5, 6.5, 200_000)
    drawn = rng.binomial(10, rates)
    for wins in (2, 5, 9):
        mean = (drawn <= wins).mean()
        error = 4 * math.sqrt(mean * (1 - mean) / len(drawn))
        assert chance(wins, 10, 14, 20) == pytest.approx(mean, abs=error)
    assert chance(10, 10, 14, 20) == pytest.approx(1.0)


def test_failing_where_the_base_succeeded_halves_the_gain():
    trust = after_base(15)
    failed = 0
    while failed < 10 and not trust.retreats:
        failed += 1
        feed(trust, [False], first=20 + failed)
    assert trust.retreats == 1
    assert failed == 3  # (5.5 6.5 7.5) / (21 22 23) = .025, with two .077
    assert trust.ramp == Ramp((failed * LENGTH) / 200 / 2, 100 + failed * LENGTH)
    steps = trust.ramp.since + 100
    assert gain(CONFIG, trust.ramp, steps, 300) == pytest.approx(trust.ramp.at + 0.5)


def test_one_that_does_as_the_base_keeps_its_reach():
    trust = after_base(15)
    feed(trust, [True, True, True, False] * 10, first=20)
    assert trust.retreats == 0
    assert trust.ramp == begun(CONFIG)


def test_a_base_that_never_succeeds_holds_nobody_back():
    trust = after_base(0)
    feed(trust, [False] * 50, first=20)
    assert trust.retreats == 0


def test_helped_episodes_are_nobodys_merit_or_fault():
    trust = after_base(15)
    feed(trust, [False] * 10, first=20, helped=True)
    assert trust.retreats == 0


def test_episodes_begun_before_a_retreat_are_not_held_against_what_follows():
    trust = after_base(15)
    trust.add(make_row(99, 0), 1)  # another arm's, under way
    feed(trust, [False] * 3, first=20)
    assert trust.retreats == 1
    trust.add(make_row(99, 1, truncated=True), 1)
    feed(trust, [False] * 2, first=30)
    assert trust.retreats == 1
    feed(trust, [False], first=40)
    assert trust.retreats == 2


def test_other_rows_do_not_count():
    trust = after_base(15)
    for number in range(20, 30):
        for source in (Source.DEMO, Source.EVAL):
            trust.add(make_row(number, 0, source, truncated=True), 0)
    assert trust.retreats == 0
    assert trust.ramp == begun(CONFIG)


def test_without_the_option_nothing_shrinks():
    trust = Trust(LearnerConfig(total_steps=1000, collect=0.1, ramp=0.2))
    feed(trust, [True] * 20)
    feed(trust, [False] * 30, first=20)
    assert trust.retreats == 0
