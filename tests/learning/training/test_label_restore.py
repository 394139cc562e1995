"""A learner that starts again has the labels, and the newest checkpoint that its store allows."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import CheckpointError
from handrail.transition import Source
from learner.config import BaseConfig, LearnerConfig
from learner.service.progress import RunProgress
from learner.service.restore import ingest, newest_within, restore
from learner.store.checkpoint import Checkpoints
from learner.store.store import Store
from learner.trainer import Trainer

CONFIG = LearnerConfig(capacity=1000)
ARRAYS = ("reward", "success", "terminated", "aborted", "mc_return")


def fresh() -> tuple[Trainer, RunProgress]:
    trainer = Trainer(CONFIG, BaseConfig(), SPEC)
    return trainer, RunProgress(trainer.log)


def test_the_replay_rebuilt_at_start_is_the_one_that_was_patched_live(tmp_path: Path) -> None:
    live, counts = fresh()
    with Store(tmp_path / "store.db", SPEC) as store:
        for number in range(6):
            source = Source.DEMO if number < 2 else Source.ONLINE
            store.put_rows("arm", make_episode(number, 4, source, success=number % 2 == 0))
        for episode, verdict in ((1, Outcome.SUCCESS), (2, Outcome.FAILURE), (3, Outcome.ABORT)):
            store.put_label("operator", EpisodeLabel("arm", episode, verdict))
        store.put_rows("arm", make_episode(6, 4))
        for stored in store.records():
            ingest(live, counts, stored)
        again, run_progress = fresh()
        restore(again, run_progress, store, Checkpoints(tmp_path / "checkpoints"))
        assert again.rows == live.rows == store.cursor == 7 * 5 + 3
    for name in ARRAYS:
        left, right = getattr(again.replay, name), getattr(live.replay, name)
        np.testing.assert_array_equal(left, right, name)
    assert [bool(again.replay.success[5 * n + 3]) for n in range(4)] == [True, True, False, False]
    assert again.replay.aborted[15:20].all()
    assert run_progress.counts() == counts.counts()
    assert run_progress.demos == 2


def test_a_checkpoint_ahead_of_the_store_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert newest_within(checkpoints, 0) is None
    for cursor in (10, 20, 30):
        meta = {"cursor": cursor, "updates": cursor, "env_steps": cursor}
        checkpoints.save({"meta": meta, "arrays": {"x": np.zeros(1)}})
    for cursor, wanted in ((30, 30), (29, 20), (10, 10)):
        found = newest_within(checkpoints, cursor)
        assert found is not None
        assert found["meta"]["cursor"] == wanted
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError, match="holds 9"):
        newest_within(checkpoints, 9)
    assert "older copy" in caplog.text
