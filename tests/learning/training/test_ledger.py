"""What a learner holds of a run: counts that a restarted actor goes on from."""

from __future__ import annotations

import pytest
from made_rows import make_episode, make_row

from actor.link.client import parse_progress
from handrail.errors import ProtocolMismatch
from handrail.transition import Source
from learner.episode_log import EpisodeLog
from learner.service.progress import RunProgress


def test_takeovers_and_driven_steps_are_counted_per_actor():
    log = EpisodeLog()
    run_progress = RunProgress(log)
    driven = [False, True, True, False, True]
    for t, human in enumerate(driven):
        for actor in ("left", "right"):
            row = make_row(0, t, intervened=human and actor == "left")
            log.add(row, run_progress.number(actor))
    log.add(make_row(1, 0, intervened=True), run_progress.number("left"))
    counts = run_progress.counts()
    assert counts["human_steps"] == 4
    assert counts["takeovers"] == 3, "a new episode begins a new take-over"
    assert counts["env_steps"] == 11


def test_demonstrations_and_evaluation_are_not_training():
    log = EpisodeLog()
    run_progress = RunProgress(log)
    for source in (Source.DEMO, Source.EVAL, Source.ONLINE):
        for row in make_episode(int(source), 3, source):
            log.add(row)
    counts = run_progress.counts()
    assert counts["rows"] == 12
    assert counts["env_steps"] == 3
    assert counts["demos"] == 1
    assert counts["episodes"] == 1 + max(int(Source.DEMO), int(Source.ONLINE))


def test_actors_are_numbered_as_they_come():
    run_progress = RunProgress(EpisodeLog())
    assert [run_progress.number(name) for name in ("b", "a", "b", "c")] == [0, 1, 0, 2]


def test_an_actor_refuses_a_status_that_lacks_a_count():
    counts = RunProgress(EpisodeLog()).counts()
    assert parse_progress({**counts, "updates": 3}).takeovers == 0
    counts.pop("human_steps")
    with pytest.raises(ProtocolMismatch, match="human_steps"):
        parse_progress(counts)
