"""The log of episodes: one count of env steps, one idea of what is in progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_rows import SPEC, make_row

from handrail.transition import Source
from learner.config import BaseConfig, LearnerConfig
from learner.episode_log import EpisodeLog, LoggedRow
from learner.service.progress import RunProgress
from learner.trainer import Trainer


class Heard:
    """Somebody who writes down what the log says."""

    def __init__(self, log: EpisodeLog) -> None:
        self.rows: list[LoggedRow] = []
        self.steps: list[int] = []
        self.log = log
        log.subscribe(self)

    def on_row(self, logged):
        self.rows.append(logged)
        self.steps.append(self.log.env_steps)

    def on_label(self, label, actor):
        pass


def test_whoever_subscribes_counts_the_same_env_steps_whatever_comes_between():
    config = LearnerConfig(preset="rlpd", residual_on="zeros", collect_with="random")
    trainer = Trainer(config, BaseConfig(kind="none"), SPEC)
    progress = RunProgress(trainer.log)
    rng, counted = np.random.default_rng(0), 0
    for episode in range(12):
        source = Source(rng.choice([Source.DEMO, Source.ONLINE, Source.EVAL]))
        length = int(rng.integers(1, 5))
        for actor in (0, 1):
            for t in range(length):
                trainer.add(make_row(episode, t, source, truncated=t == length - 1), actor)
            trainer.add(make_row(episode, length, source, end=True), actor)
        counted += 2 * length * (source == Source.ONLINE)
    assert counted > 0
    assert trainer.env_steps == progress.env_steps == counted
    assert trainer.residual_schedule.log is trainer.log


def test_an_episode_adds_up_over_its_steps_and_hands_over_to_the_next():
    log = EpisodeLog()
    heard = Heard(log)
    for t in range(3):
        log.add(make_row(4, t, cost=0.5, intervened=t == 1, truncated=t == 2))
    log.add(make_row(4, 3, end=True, cost=9.0))
    log.add(make_row(5, 0))
    whole = heard.rows[3].episode
    assert (whole.number, whole.first, whole.cost) == (4, 0, 1.5), "an end row is no step"
    assert whole.helped
    assert whole.over
    assert [logged.after_driven for logged in heard.rows[:3]] == [False, False, True]
    assert [logged.before for logged in heard.rows[:4]] == [None] * 4
    assert heard.rows[4].before is whole
    assert heard.rows[4].episode.first == 3
    assert heard.steps == [0, 1, 2, 3, 3], "a row is told of before it counts"


def test_actors_and_sources_are_kept_apart():
    log = EpisodeLog()
    heard = Heard(log)
    log.add(make_row(0, 0), 0)
    log.add(make_row(0, 0, intervened=True), 1)
    log.add(make_row(1, 0, Source.DEMO), 0)
    log.add(make_row(0, 1), 0)
    log.add(make_row(0, 1), 1)
    assert [logged.before for logged in heard.rows] == [None] * 5
    assert heard.rows[3].episode is heard.rows[0].episode
    assert [logged.after_driven for logged in heard.rows[3:]] == [False, True]


def test_the_end_of_an_episode_whose_steps_were_lost_judges_nothing():
    log = EpisodeLog()
    heard = Heard(log)
    log.add(make_row(0, 0, truncated=True))
    log.add(make_row(7, 3, end=True))
    log.add(make_row(8, 0))
    assert heard.rows[1].before is None
    assert heard.rows[2].before is heard.rows[0].episode


def test_an_episode_is_asked_once_whether_it_is_held_out():
    asked = []
    log = EpisodeLog(lambda actor, number: not asked.append((actor, number)))
    heard = Heard(log)
    for t in range(4):
        log.add(make_row(2, t), 1)
    assert asked == [(1, 2)]
    assert all(logged.episode.held_out for logged in heard.rows)


def test_an_action_that_is_not_the_base_s_own_is_an_edit():
    log = EpisodeLog()
    heard = Heard(log)
    row = make_row(0, 0)
    log.add(replace(row, policy_action=row.base_action))
    assert not heard.rows[0].episode.edited
    log.add(replace(make_row(0, 1), policy_action=row.base_action + np.float32(0.5)))
    log.add(replace(make_row(0, 2), policy_action=make_row(0, 2).base_action))
    assert heard.rows[0].episode.edited
