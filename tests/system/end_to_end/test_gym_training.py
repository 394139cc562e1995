"""A gymnasium environment through the product as a user starts it, and what is learned there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from actor.cli.run_folders import create_configured_run
from actor.loop.evaluate import evaluate, policies_to_evaluate
from actor.loop.run_inline import inline_session
from handrail.spec import load_spec
from handrail.transition import Source
from learner.store.store import Store

SMALL = ("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32")


def handrail(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handrail", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_pendulum_trains_as_two_processes_and_leaves_a_whole_run(tmp_path: Path):
    folder = tmp_path / "run"
    options = ("--run.steps", "400", "--run.eval-episodes", "2", "--learner.utd", "1", *SMALL)
    done = handrail("train", "pendulum", "--out", str(folder), "--no-video", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "logs" / "host.log").exists(), "there is no control host"
    assert "mean return" in done.stdout
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["task"] == "gym:Pendulum-v1"
    assert summary["env_steps"] == 400
    assert summary["updates"] > 0
    assert -2000.0 < summary["return"] < 0.0
    assert (folder / "report.png").stat().st_size > 0
    store = Store(folder / "store.db", load_spec(folder / "spec.json"), readonly=True)
    rows = [row for _, row in store.rows()]
    store.close()
    assert {row.source for row in rows} == {Source.ONLINE}
    assert [row.t for row in rows if row.truncated] == [199, 199]
    assert [row.t for row in rows if row.end] == [200, 200]
    assert not any(row.terminated or row.success for row in rows)
    told = handrail("eval", str(folder), "--episodes", "2", "--json")
    assert told.returncode == 0, told.stderr
    assert set(json.loads(told.stdout.splitlines()[-1])) == {
        "policy", "trivial/random", "trivial/still",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("way", ["inline", "processes"])
def test_the_budget_of_steps_is_kept_to_the_step_within_an_episode(tmp_path: Path, way: str):
    folder = tmp_path / "run"
    options = ("--run.steps", "250", "--run.eval-episodes", "1", "--learner.utd", "1", *SMALL)
    inline = ("--inline",) if way == "inline" else ()
    done = handrail("train", "pendulum", "--out", str(folder), "--no-video", *inline, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(folder / "store.db", load_spec(folder / "spec.json"), readonly=True)
    rows = [row for _, row in store.rows()]
    store.close()
    assert sum(not row.end for row in rows) == 250
    assert [row.t for row in rows if row.end] == [200, 50]
    assert [row.t for row in rows if row.truncated] == [199]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["env_steps"], summary["train_episodes"]) == (250, 1)
    assert summary["updates"] == 250


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gym:Pendulm-v1",), "did you mean 'Pendulum-v1'"),
        (("pendulum", "--view"), "--realtime and --view"),
        (("pendulum", "--learner.preset", "resfit"), "needs a base"),
    ],
)
def test_what_cannot_be_trained_gets_one_clear_line(arguments, words, tmp_path: Path):
    done = handrail("train", *arguments, "--out", str(tmp_path / "run"))
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.long
def test_pendulum_is_swung_up_after_three_thousand_steps_from_scratch(tmp_path: Path):
    """Random torques come to about -1200. Shortened from `benchmarks/classics.py`: fewer heads
    and rows.

    It fails where a time-out is taken for an end, actions don't reach both ends of their range,
    entropy has the wrong sign, or the learner's updates lag behind the steps.
    """
    options = ["--run.steps", "3000", "--learner.num-qs", "2", "--learner.batch", "64"]
    run, config = create_configured_run("pendulum", options, tmp_path / "run")
    with inline_session(run, config) as (session, _):
        session.wait_for_weights()
        session.train(config.run.steps)
        session.link.wait_for_updates(session.policy, session.env_steps)
        drivers = policies_to_evaluate(session.task, session.policy, config.run.seed)
        results = evaluate(session.env, drivers, range(10), config.run.seed)
    returns = {name: sum(r.reward_sum for r in rs) / len(rs) for name, rs in results.items()}
    assert returns["trivial/random"] < -900.0
    assert returns["trivial/still"] < -900.0
    assert returns["policy"] > -500.0, returns
