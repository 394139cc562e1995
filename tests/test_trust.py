"""Edits reach further by degrees, less far where they do worse; evaluations wait for a proof."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_rows import make_row

from handrail.label import Label, Verdict
from handrail.transition import Source
from learner.config import LearnerConfig
from learner.trust import Ramp, Trust, ahead, begun, chance, gain

LENGTH = 5  # [steps], of an episode
CONFIG = LearnerConfig(total_steps=1000, collect=0.1, warmup=0.1, ramp=0.2, retreat=0.05)
PROOF = replace(CONFIG, retreat=0.0, proof=True)
NEXT = 1_000_000  # number of an episode that has only begun


def feed(
    trust: Trust,
    successes: list[bool],
    first: int = 0,
    helped: bool = False,
    by_base: bool = False,
) -> None:
    """Feed episodes, and the first row of another, with which the last of them is judged."""
    for number, success in enumerate(successes, first):
        feed_one(trust, number, success, helped, by_base)
    trust.add(make_row(NEXT, 0), 0)


def feed_one(
    trust: Trust, number: int, success: bool, helped: bool = False, by_base: bool = False
) -> None:
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
        trust.add(replace(row, policy_action=row.base_action) if by_base else row, 0)
    trust.add(make_row(number, LENGTH, end=True), 0)


def after_base(wins: int, config: LearnerConfig = CONFIG) -> Trust:
    """Return what follows a base that won so many of 20."""
    trust = Trust(config)
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
    steps = 100 + failed * (LENGTH + 1)  # the first row of the one after it is not counted yet
    assert trust.ramp == Ramp((steps - 100) / 200 / 2, steps)
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
    trust.add(make_row(NEXT, 0), 1)
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


def test_a_label_that_comes_before_the_next_episode_is_judged_with_it():
    trust = after_base(15)
    for number in range(20, 30):
        feed_one(trust, number, success=False)
        trust.label(Label("arm", number, Verdict.SUCCESS), 0)
    feed(trust, [], first=30)
    assert trust.retreats == 0


def test_chance_of_being_ahead_is_that_of_drawing_a_better_rate():
    rng = np.random.default_rng(0)
    for record in ((3, 20, 1, 7), (19, 20, 10, 12), (0, 10, 0, 7)):
        wins, episodes, base_wins, base_episodes = record
        edits = rng.beta(wins + 0.5, episodes - wins + 0.5, 100_000)
        base = rng.beta(base_wins + 0.5, base_episodes - base_wins + 0.5, 100_000)
        assert ahead(*record) == pytest.approx((edits > base).mean(), abs=0.01)
    assert ahead(14, 20, 14, 20) == pytest.approx(0.5, abs=1e-3)


def test_edits_are_proven_once_they_do_better_than_the_base_and_no_longer_than_that():
    trust = after_base(10, PROOF)
    feed(trust, [True] * 9, first=20)
    assert not trust.proven  # too few, whatever they did
    feed(trust, [True], first=29)
    assert trust.proven
    feed(trust, [True, False] * 10, first=30)
    assert not trust.proven  # as good as the base is not better
    feed(trust, [True] * 20, first=50)
    assert trust.proven


def test_the_burden_of_proof_falls_to_one_half():
    early, late = (
        after_base(10, replace(PROOF, total_steps=steps, collect=100 / steps))
        for steps in (4000, 200)
    )
    for trust in (early, late):
        feed(trust, [True] * 12 + [False] * 8, first=20)  # ahead of 10 in 20 by a chance of .73
    assert not early.proven
    assert late.proven
    feed(late, [False] * 3, first=40)  # 9 of the newest 20
    assert not late.proven


def test_episodes_without_an_edit_are_the_bases():
    trust = after_base(10, PROOF)
    feed(trust, [True] * 8 + [False] * 2, first=20)
    assert trust.proven  # against 10 of 20
    feed(trust, [True] * 60, first=30, by_base=True)
    assert not trust.proven  # against 70 of 80


def test_help_counts_as_failure_of_whoever_needed_it():
    trust = after_base(10, PROOF)
    feed(trust, [True] * 20, first=20, helped=True)
    assert not trust.proven
    helpless = Trust(PROOF)
    feed(helpless, [True] * 20, helped=True)
    feed(helpless, [True] * 3 + [False] * 7, first=20)
    assert helpless.proven  # 3 of 10 against none of 20


def test_where_somebody_helps_only_quiet_episodes_prove_anything():
    config = replace(PROOF, quiet_every=3)
    for skilled in (True, False):
        trust = after_base(10, config)  # 4 of 7 quiet ones
        for number in range(20, 62):
            exam = number % 3 == 0
            feed(trust, [exam == skilled], first=number, helped=not exam)
        assert trust.proven == skilled
    trust = after_base(0, config)
    feed(trust, [False] * 30, first=20, helped=True)
    assert not trust.proven  # help in an exam is a failure
    feed(trust, [True] * 30, first=50)
    assert trust.proven
    feed(trust, [False] * 60, first=80, by_base=True)
    assert trust.proven


def test_a_late_label_counts_and_an_aborted_episode_does_not():
    trust = after_base(10, PROOF)
    feed(trust, [False] * 10, first=20)
    assert not trust.proven
    for number in range(20, 30):
        trust.label(Label("arm", number, Verdict.SUCCESS), 0)
    assert trust.proven
    trust.label(Label("arm", 20, Verdict.ABORT), 0)
    assert not trust.proven  # nine are too few
    trust.label(Label("arm", 20, Verdict.SUCCESS), 1)  # another arm's
    assert not trust.proven
    trust.label(Label("arm", 20, Verdict.SUCCESS), 0)  # the newest counts
    assert trust.proven


def test_after_a_retreat_edits_are_to_be_proven_anew():
    config = replace(PROOF, retreat=0.05)
    trust = after_base(10, config)
    feed(trust, [True] * 10, first=20)
    assert trust.proven
    feed(trust, [False] * 9, first=30)
    assert trust.retreats == 1
    assert not trust.proven


def test_without_the_option_nothing_needs_a_proof():
    assert after_base(20).proven


def test_without_the_option_nothing_shrinks():
    trust = Trust(LearnerConfig(total_steps=1000, collect=0.1, ramp=0.2))
    feed(trust, [True] * 20)
    feed(trust, [False] * 30, first=20)
    assert trust.retreats == 0
