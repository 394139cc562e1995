"""Every so many-th training episode goes as an evaluation would: without noise."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actor.cli.run_folders import create_configured_run
from actor.loop.run_inline import inline_session
from handrail.errors import ConfigError
from handrail.run_folder import Run, read_metrics
from handrail.transition import Source
from learner.config import LearnerConfig
from learner.store.store import Store
from learner.trainer import Trainer

SMALL = ["--learner.num-qs", "2", "--learner.batch", "16", "--learner.hidden", "16", "16"]
OPTIONS = ["--learner.preset", "residual_hil", "--learner.collect", "1.0", "--base.max-steps", "40"]


def trained(words: list[str], steps: int, folder: Path) -> tuple[Run, Trainer]:
    """Return a run of so many training steps and its learner."""
    run, config = create_configured_run("reach", [*words, "--run.steps", str(steps)], folder)
    with inline_session(run, config) as (session, trainer):
        session.record(config.run.demos)
        session.wait_for_weights()
        session.train(steps)
    return run, trainer


def episodes_of(run: Run) -> list[dict[str, Any]]:
    """Return the lines of its training episodes."""
    rows = read_metrics(run.metrics)
    return [row for row in rows if row["kind"] == "episode" and row["phase"] != "record"]


@pytest.mark.slow
def test_quiet_episodes_have_no_noise_and_the_others_have(tmp_path: Path):
    words = [*OPTIONS, *SMALL, "--run.demos", "4", "--learner.utd", "0.1"]
    run, trainer = trained(words, 150, tmp_path / "run")
    flags = {row["episode"]: row["quiet"] for row in episodes_of(run)}
    assert flags == {number: number % 3 == 0 for number in flags}
    assert len(set(flags.values())) == 2
    store = Store(run.store, trainer.spec, readonly=True)
    online = [row for _, row in store.rows() if row.source == Source.ONLINE and not row.end]
    store.close()
    for number, steps in groupby(online, lambda row: row.episode):
        noise = [np.abs(row.action - row.base_action).max() for row in steps]
        assert (max(noise) == 0.0) == flags[number], f"episode {number}"


def test_rows_of_the_actor_say_whether_its_episode_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("actor.loop.session.STATUS_PERIOD", 0.0)  # a row at every step
    words = [*OPTIONS, *SMALL, "--run.demos", "4", "--learner.utd", "0.1"]
    run, _ = trained(words, 150, tmp_path / "run")
    said: set[bool] = set()
    checked = 0
    for row in read_metrics(run.metrics):
        if row["kind"] == "actor" and row["phase"] != "record":
            said.add(row["quiet"])
        elif row["kind"] == "episode" and row["phase"] != "record":
            assert said == {row["quiet"]}, f"episode {row['episode']}"
            said, checked = set(), checked + 1
    assert checked >= 4


@pytest.mark.slow
def test_an_evaluation_after_a_quiet_episode_is_no_exam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("actor.loop.session.STATUS_PERIOD", 0.0)
    words = [*OPTIONS, *SMALL, "--run.demos", "4", "--learner.utd", "0.1"]
    run, config = create_configured_run("reach", words, tmp_path / "run")
    with inline_session(run, config) as (session, _):
        session.record(config.run.demos)
        session.wait_for_weights()
        while (session.episode - 1) % 3 or session.env_steps == 0:
            session.train(session.env_steps + 1)
        session.evaluate(1)
    rows = [row for row in read_metrics(run.metrics) if row["kind"] == "actor"]
    assert {row["quiet"] for row in rows if row["phase"] == "evaluation"} == {False}
    assert [row["quiet"] for row in rows if row["phase"] == "collect"][-1]


@pytest.mark.slow
def test_by_turns_a_quiet_episode_is_edited_and_goes_as_an_evaluation_would(tmp_path: Path):
    words = [*OPTIONS[:2], *SMALL, "--learner.collect", "0.1", "--learner.warmup", "0.0"]
    words += ["--base.max-steps", "40", "--run.demos", "4"]
    run, trainer = trained(words, 300, tmp_path / "run")
    assert not trainer.residual_schedule.improved
    store = Store(run.store, trainer.spec, readonly=True)
    online = [row for _, row in store.rows() if row.source == Source.ONLINE and not row.end]
    store.close()
    by_base = {
        number: all(np.array_equal(row.action, row.base_action) for row in steps)
        for number, steps in groupby(online, lambda row: row.episode)
    }
    later = [number for number in by_base if number > 3 and number % 3 == 0]
    assert len(later) >= 2
    assert [by_base[n] for n in later] == [n // 3 % 2 == 0 for n in later]


@pytest.mark.slow
def test_the_scripted_operator_leaves_quiet_episodes_alone(tmp_path: Path):
    words = [*OPTIONS, *SMALL, "--run.demos", "4", "--learner.utd", "0.1", "--operator.enabled"]
    words += ["--operator.stall-steps", "2", "--operator.reaction-steps", "0"]
    run, _ = trained(words, 300, tmp_path / "run")
    rows = episodes_of(run)
    assert sum(row["human_steps"] for row in rows if row["quiet"]) == 0
    assert sum(row["human_steps"] for row in rows if not row["quiet"]) > 0


def test_a_negative_count_is_refused():
    with pytest.raises(ConfigError, match="noise_free_every must be 0 or more, got -1"):
        LearnerConfig(noise_free_every=-1)
