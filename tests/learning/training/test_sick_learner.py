"""A learner whose training can't come to anything says so, ends its run, keeps what was good."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from failing_env import write_failing_env
from made_rows import SPEC, make_row
from test_publication import poisoned, trained

from handrail.errors import ProtocolMismatch, StorageError, TrainingFailed
from handrail.metrics import Metrics
from handrail.run_folder import Run, create_run, read_metrics
from learner.policy.load import load_policy
from learner.service.health import CHECKPOINT_PATIENCE, CHECKPOINT_PERIOD, REFUSED_STEPS, Health
from learner.service.restore import checkpoint
from learner.store.checkpoint import Checkpoints
from learner.trainer import Trainer


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", "toy", SPEC.hash, "")


def events_of(run: Run) -> list[str]:
    return [row["text"] for row in read_metrics(run.metrics) if row["kind"] == "event"]


def published(health: Health, trainer: Trainer) -> None:
    before = trainer.publication.decision
    trainer.packet()
    health.check_publication(before)


def test_weights_that_are_not_finite_end_the_run_and_the_last_state_is_kept(run):
    trainer, checkpoints = trained(), Checkpoints(run.checkpoints)
    health = Health(trainer, checkpoints, Metrics(run, "learner"))
    health.checkpoint()
    kept = checkpoints.names()
    published(health, trainer)
    trainer._state = poisoned(trainer, float("nan"))
    with pytest.raises(TrainingFailed, match=f"update 100 are not finite; checkpoint {kept[0]} is"):
        published(health, trainer)
    with pytest.raises(TrainingFailed, match="after update 100 is not finite"):
        health.checkpoint()
    assert checkpoints.names() == kept
    assert any("not finite" in text for text in events_of(run))
    state = load_policy(run.folder).act(np.zeros(3, np.float32))
    assert np.isfinite(state.action).all()


def test_lasting_refusals_end_the_run_and_push_no_good_checkpoint_out(run):
    trainer, checkpoints = trained(), Checkpoints(run.checkpoints, keep=2)
    health = Health(trainer, checkpoints, Metrics(run, "learner"))
    health.checkpoint()
    good = checkpoints.names()[0]
    healthy = trainer._state
    trainer._state = poisoned(trainer)
    published(health, trainer)
    assert "the arm keeps" in events_of(run)[0]
    for turn in range(4):
        trainer.log.env_steps += REFUSED_STEPS // 4
        trainer._state = healthy
        trainer._state = poisoned(trainer, 9.0 if turn % 2 else -9.0)  # it never settles
        published(health, trainer)
        health.checkpoint()
    assert len(checkpoints.names()) == 3
    assert checkpoints.newest_good() == good
    trainer.log.env_steps += 1
    trainer._state = healthy
    trainer._state = poisoned(trainer, -9.0)
    refused = f"weights of the last {REFUSED_STEPS + 1} steps were refused: actions moved"
    with pytest.raises(TrainingFailed, match=refused):
        published(health, trainer)
    assert good in checkpoints.names()


def test_a_disk_that_takes_no_checkpoint_is_said_and_waited_for_not_for_ever(run):
    now = [0.0]
    trainer, checkpoints = trained(), Checkpoints(run.checkpoints)
    health = Health(trainer, checkpoints, Metrics(run, "learner"), lambda: now[0])
    shutil.rmtree(run.checkpoints)
    run.checkpoints.write_text("no folder")
    now[0] += CHECKPOINT_PERIOD
    health.checkpoint_if_due()
    assert f"no checkpoint for {CHECKPOINT_PERIOD:.0f} s: can't write" in events_of(run)[0]
    health.checkpoint_if_due()  # not yet due again
    assert len(events_of(run)) == 1
    run.checkpoints.unlink()
    now[0] += CHECKPOINT_PERIOD
    health.checkpoint_if_due()
    assert len(checkpoints.names()) == 1
    shutil.rmtree(run.checkpoints)
    run.checkpoints.write_text("no folder")
    now[0] += CHECKPOINT_PATIENCE + 1
    with pytest.raises(StorageError, match="can't write checkpoint"):
        health.checkpoint_if_due()


def test_a_refusing_state_alone_is_still_pruned(run, tmp_path):
    trainer, checkpoints = trained(), Checkpoints(tmp_path / "made", keep=1)
    trainer._state = poisoned(trainer)
    trainer.packet()
    for _ in range(3):
        trainer.log.env_steps += 1
        assert checkpoint(trainer, checkpoints)
    assert len(checkpoints.names()) == 1


@pytest.mark.parametrize("reward", [1e39, -1e39, float("inf"), float("nan")])
def test_a_reward_that_float32_does_not_hold_is_refused(reward):
    with pytest.raises(ProtocolMismatch, match="reward must be finite, also as float32"):
        make_row(3, 4, reward=reward).validate(SPEC)
    make_row(3, 4, reward=3e38).validate(SPEC)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["inline", "processes"])
def test_a_run_whose_learner_is_sick_ends_badly(tmp_path: Path, way: str):
    write_failing_env(tmp_path)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "handrail", "train", "gym:failing:Failing-v0", "--no-video"),
            *("--out", str(tmp_path / "run"), "--run.steps", "300", "--run.eval-episodes", "1"),
            *("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32"),
            *("--gym.kwargs", "way", "never", "reward", "3e38"),
            *(("--inline",) if way == "inline" else ()),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("handrail train: error: ")
    assert "not finite; checkpoint step-" in last
    assert not (tmp_path / "run" / "summary.json").exists()
    assert Checkpoints(tmp_path / "run" / "checkpoints").names()
    load_policy(tmp_path / "run")
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert any("not finite" in json.loads(row).get("text", "") for row in rows)
