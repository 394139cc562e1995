"""Each extra alone, in a virtual environment of its own: what that kind of host must do."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from bare_venv import ROOT, SMALL, BareVenv

from actor.cli.run_folders import create_configured_run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
CONSTRAINTS = ROOT / "constraints.txt"


@pytest.fixture(scope="module")
def learn(tmp_path_factory) -> BareVenv:
    folder = tmp_path_factory.mktemp("learn")
    return BareVenv(folder, f"{ROOT}[learn]", constraints=CONSTRAINTS)


@pytest.fixture(scope="module")
def sim(tmp_path_factory) -> BareVenv:
    return BareVenv(tmp_path_factory.mktemp("sim"), f"{ROOT}[sim]", constraints=CONSTRAINTS)


@pytest.fixture(scope="module")
def arm_run(tmp_path_factory) -> Path:
    run, _ = create_configured_run("reach", [], tmp_path_factory.mktemp("arm") / "run")
    return run.folder


def test_a_learner_host_trains_reads_and_evaluates_a_gymnasium_task(learn: BareVenv):
    assert not any(learn.has(module) for module in ("mujoco", "imageio", "mcap"))
    said = learn.run("handrail", "train", "pendulum", "--out", "run", *SMALL)
    assert "no policy.mp4" in said
    assert "imageio" in said
    assert "pictures: run/report.png" in said
    (learn.folder / "run" / "summary.json").unlink()
    learn.run("handrail", "report", "run")
    assert (learn.folder / "run" / "summary.json").is_file()
    learn.run("handrail", "data", "verify", "run")
    assert "actor-0" in learn.run("handrail", "data", "ls", "run")
    assert "trivial/random" in learn.run("handrail", "eval", "run", "--episodes", "1")
    assert "nobody listens" in learn.attempt("handrail", "status", "run").stdout


def test_a_learner_host_serves_and_reads_a_run_of_an_arm(learn: BareVenv, arm_run: Path):
    log = learn.folder / "learner.log"
    learner = learn.start("handrail", "learner", "--run", str(arm_run), log=log)
    try:
        end = time.monotonic() + 120.0
        while learn.attempt("handrail", "status", str(arm_run)).returncode != 0:
            assert learner.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end
        said = learn.run("handrail", "status", str(arm_run))
        assert "answers in" in said
        assert "task reach" in said
        learner.send_signal(signal.SIGTERM)
        assert learner.wait(60) == 0, log.read_text(encoding="utf-8")
    finally:
        learner.kill()
        learner.wait()
    learn.run("handrail", "data", "ls", str(arm_run))
    learn.run("handrail", "report", str(arm_run))


def test_a_learner_host_says_at_once_what_an_arm_would_need(learn: BareVenv):
    done = learn.attempt("handrail", "train", "reach", "--out", "arm")
    assert done.returncode == 2
    assert "pip install 'handrail[sim]'" in done.stdout


def test_a_robot_host_is_ready_and_the_doctor_finds_it_fit(sim: BareVenv, arm_run: Path):
    assert not any(sim.has(module) for module in ("jax", "optax", "mcap"))
    assert "run the 1 kHz control process" in sim.run("handrail", "doctor", "--role", "host")
    log = sim.folder / "host.log"
    host = sim.start("handrail", "host", "--run", str(arm_run), log=log)
    try:
        end = time.monotonic() + 240.0
        while "ready after" not in log.read_text(encoding="utf-8"):
            assert host.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        host.send_signal(signal.SIGTERM)
        assert host.wait(60) == 0, log.read_text(encoding="utf-8")
    finally:
        host.kill()
        host.wait()
    done = sim.attempt("handrail", "train", "reach", "--out", "arm")
    assert done.returncode == 2
    assert "pip install 'handrail[learn]'" in done.stdout
