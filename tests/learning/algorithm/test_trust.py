"""Edits reach further by degrees, less far where they do worse; evaluations wait for a proof."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_rows import make_row

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.transition import Source
from learner.config import LearnerConfig
from learner.episode_log import EpisodeLog
from learner.policy.ramp import ScaleRamp, initial_ramp, residual_gain
from learner.policy.residual_schedule import ResidualSchedule, betabinom_cdf, prob_better

LENGTH = 5  # [steps], of an episode
CONFIG = LearnerConfig(total_steps=1000, collect=0.1, warmup=0.1, ramp=0.2, backoff_level=0.05)
PROOF = replace(CONFIG, backoff_level=0.0, require_improvement=True)
NEXT = 1_000_000  # number of an episode that has only begun


def feed(
    residual_schedule: ResidualSchedule,
    successes: list[bool],
    first: int = 0,
    helped: bool = False,
    by_base: bool = False,
) -> None:
    """Feed episodes, and the first row of another, with which the last of them is judged."""
    for number, success in enumerate(successes, first):
        feed_one(residual_schedule, number, success, helped, by_base)
    residual_schedule.log.add(make_row(NEXT, 0), 0)


def feed_one(
    residual_schedule: ResidualSchedule,
    number: int,
    success: bool,
    helped: bool = False,
    by_base: bool = False,
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
        residual_schedule.log.add(
            replace(row, policy_action=row.base_action) if by_base else row, 0
        )
    residual_schedule.log.add(make_row(number, LENGTH, end=True), 0)


def after_base(wins: int, config: LearnerConfig = CONFIG) -> ResidualSchedule:
    """Return what follows a base that won so many of 20."""
    residual_schedule = ResidualSchedule(config, EpisodeLog())
    feed(residual_schedule, [True] * wins + [False] * (20 - wins))
    return residual_schedule


def test_edits_grow_from_nothing_to_their_reach():
    ramp = initial_ramp(CONFIG)
    gains = [residual_gain(CONFIG, ramp, step, 300) for step in (0, 99, 100, 200, 300, 900)]
    assert gains == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert residual_gain(CONFIG, ramp, 900, 299) == 0.0
    assert residual_gain(CONFIG, ScaleRamp(0.25, 500), 600, 300) == 0.75


def test_chance_of_the_tail_is_that_of_drawing_it():
    rng = np.random.default_rng(0)
    rates = rng.beta(14.5, 6.5, 200_000)
    drawn = rng.binomial(10, rates)
    for wins in (2, 5, 9):
        mean = (drawn <= wins).mean()
        error = 4 * math.sqrt(mean * (1 - mean) / len(drawn))
        assert betabinom_cdf(wins, 10, 14, 20) == pytest.approx(mean, abs=error)
    assert betabinom_cdf(10, 10, 14, 20) == pytest.approx(1.0)


def test_failing_where_the_base_succeeded_halves_the_gain():
    residual_schedule = after_base(15)
    failed = 0
    while failed < 10 and not residual_schedule.backoffs:
        failed += 1
        feed(residual_schedule, [False], first=20 + failed)
    assert residual_schedule.backoffs == 1
    assert failed == 3  # (5.5 6.5 7.5) / (21 22 23) = .025, with two .077
    steps = 100 + failed * (LENGTH + 1)  # the first row of the one after it is not counted yet
    assert residual_schedule.ramp == ScaleRamp((steps - 100) / 200 / 2, steps)
    steps = residual_schedule.ramp.since + 100
    assert residual_gain(CONFIG, residual_schedule.ramp, steps, 300) == pytest.approx(
        residual_schedule.ramp.at + 0.5
    )


def test_one_that_does_as_the_base_keeps_its_reach():
    residual_schedule = after_base(15)
    feed(residual_schedule, [True, True, True, False] * 10, first=20)
    assert residual_schedule.backoffs == 0
    assert residual_schedule.ramp == initial_ramp(CONFIG)


def test_a_base_that_never_succeeds_holds_nobody_back():
    residual_schedule = after_base(0)
    feed(residual_schedule, [False] * 50, first=20)
    assert residual_schedule.backoffs == 0


def test_helped_episodes_are_nobodys_merit_or_fault():
    residual_schedule = after_base(15)
    feed(residual_schedule, [False] * 10, first=20, helped=True)
    assert residual_schedule.backoffs == 0


def test_episodes_begun_before_a_retreat_are_not_held_against_what_follows():
    residual_schedule = after_base(15)
    residual_schedule.log.add(make_row(99, 0), 1)  # another arm's, under way
    feed(residual_schedule, [False] * 3, first=20)
    assert residual_schedule.backoffs == 1
    residual_schedule.log.add(make_row(99, 1, truncated=True), 1)
    residual_schedule.log.add(make_row(NEXT, 0), 1)
    feed(residual_schedule, [False] * 2, first=30)
    assert residual_schedule.backoffs == 1
    feed(residual_schedule, [False], first=40)
    assert residual_schedule.backoffs == 2


def test_other_rows_do_not_count():
    residual_schedule = after_base(15)
    for number in range(20, 30):
        for source in (Source.DEMO, Source.EVAL):
            residual_schedule.log.add(make_row(number, 0, source, truncated=True), 0)
    assert residual_schedule.backoffs == 0
    assert residual_schedule.ramp == initial_ramp(CONFIG)


def test_a_label_that_comes_before_the_next_episode_is_judged_with_it():
    residual_schedule = after_base(15)
    for number in range(20, 30):
        feed_one(residual_schedule, number, success=False)
        residual_schedule.log.label(EpisodeLabel("arm", number, Outcome.SUCCESS), 0)
    feed(residual_schedule, [], first=30)
    assert residual_schedule.backoffs == 0


def test_chance_of_being_ahead_is_that_of_drawing_a_better_rate():
    rng = np.random.default_rng(0)
    for record in ((3, 20, 1, 7), (19, 20, 10, 12), (0, 10, 0, 7)):
        wins, episodes, base_wins, base_episodes = record
        edits = rng.beta(wins + 0.5, episodes - wins + 0.5, 100_000)
        base = rng.beta(base_wins + 0.5, base_episodes - base_wins + 0.5, 100_000)
        assert prob_better(*record) == pytest.approx((edits > base).mean(), abs=0.01)
    assert prob_better(14, 20, 14, 20) == pytest.approx(0.5, abs=1e-3)


def test_edits_are_proven_once_they_do_better_than_the_base_and_no_longer_than_that():
    residual_schedule = after_base(10, PROOF)
    feed(residual_schedule, [True] * 9, first=20)
    assert not residual_schedule.improved  # too few, whatever they did
    feed(residual_schedule, [True], first=29)
    assert residual_schedule.improved
    feed(residual_schedule, [True, False] * 10, first=30)
    assert not residual_schedule.improved  # as good as the base is not better
    feed(residual_schedule, [True] * 20, first=50)
    assert residual_schedule.improved


def test_the_burden_of_proof_falls_to_one_half():
    early, late = (
        after_base(10, replace(PROOF, total_steps=steps, collect=100 / steps))
        for steps in (4000, 200)
    )
    for residual_schedule in (early, late):
        feed(
            residual_schedule, [True] * 12 + [False] * 8, first=20
        )  # ahead of 10 in 20 by a chance of .73
    assert not early.improved
    assert late.improved
    feed(late, [False] * 3, first=40)  # 9 of the newest 20
    assert not late.improved


def test_episodes_without_an_edit_are_the_bases():
    residual_schedule = after_base(10, PROOF)
    feed(residual_schedule, [True] * 8 + [False] * 2, first=20)
    assert residual_schedule.improved  # against 10 of 20
    feed(residual_schedule, [True] * 60, first=30, by_base=True)
    assert not residual_schedule.improved  # against 70 of 80


def test_help_counts_as_failure_of_whoever_needed_it():
    residual_schedule = after_base(10, PROOF)
    feed(residual_schedule, [True] * 20, first=20, helped=True)
    assert not residual_schedule.improved
    helpless = ResidualSchedule(PROOF, EpisodeLog())
    feed(helpless, [True] * 20, helped=True)
    feed(helpless, [True] * 3 + [False] * 7, first=20)
    assert helpless.improved  # 3 of 10 against none of 20


def test_where_somebody_helps_only_quiet_episodes_prove_anything():
    config = replace(PROOF, noise_free_every=3)
    for skilled in (True, False):
        residual_schedule = after_base(10, config)  # 4 of 7 quiet ones
        for number in range(20, 62):
            exam = number % 3 == 0
            feed(residual_schedule, [exam == skilled], first=number, helped=not exam)
        assert residual_schedule.improved == skilled
    residual_schedule = after_base(0, config)
    feed(residual_schedule, [False] * 30, first=20, helped=True)
    assert not residual_schedule.improved  # help in an exam is a failure
    feed(residual_schedule, [True] * 30, first=50)
    assert residual_schedule.improved
    feed(residual_schedule, [False] * 60, first=80, by_base=True)
    assert residual_schedule.improved


def test_a_late_label_counts_and_an_aborted_episode_does_not():
    residual_schedule = after_base(10, PROOF)
    feed(residual_schedule, [False] * 10, first=20)
    assert not residual_schedule.improved
    for number in range(20, 30):
        residual_schedule.log.label(EpisodeLabel("arm", number, Outcome.SUCCESS), 0)
    assert residual_schedule.improved
    residual_schedule.log.label(EpisodeLabel("arm", 20, Outcome.ABORT), 0)
    assert not residual_schedule.improved  # nine are too few
    residual_schedule.log.label(EpisodeLabel("arm", 20, Outcome.SUCCESS), 1)  # another arm's
    assert not residual_schedule.improved
    residual_schedule.log.label(EpisodeLabel("arm", 20, Outcome.SUCCESS), 0)  # the newest counts
    assert residual_schedule.improved


def test_after_a_retreat_edits_are_to_be_proven_anew():
    config = replace(PROOF, backoff_level=0.05)
    residual_schedule = after_base(10, config)
    feed(residual_schedule, [True] * 10, first=20)
    assert residual_schedule.improved
    feed(residual_schedule, [False] * 9, first=30)
    assert residual_schedule.backoffs == 1
    assert not residual_schedule.improved


def test_without_the_option_nothing_needs_a_proof():
    assert after_base(20).improved


def test_without_the_option_nothing_shrinks():
    residual_schedule = ResidualSchedule(
        LearnerConfig(total_steps=1000, collect=0.1, ramp=0.2), EpisodeLog()
    )
    feed(residual_schedule, [True] * 20)
    feed(residual_schedule, [False] * 30, first=20)
    assert residual_schedule.backoffs == 0
