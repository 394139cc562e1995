"""A policy trained in simulation drives the real client library, as a lab would have it do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends import SERVER, serve

EPISODES = 20
CORE = min(os.sched_getaffinity(0))  # the server's too
ROBOT = (
    *("--franka.address", "127.0.0.1", "--franka.no-realtime", "--host.core", str(CORE)),
    *("--robot.friction", "0", "0.8", "--robot.damping", "0", "0.6"),  # the server's arm has none
)


def handrail(*arguments: str, timeout: float) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "handrail", *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluated(run: Path, *arguments: str) -> dict[str, dict[str, float]]:
    said = handrail(
        "eval", str(run), "--episodes", str(EPISODES), "--json", *arguments, timeout=400
    )
    return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose policy was trained in simulation from scratch, in one process."""
    folder = tmp_path_factory.mktemp("reach") / "run"
    options = ("--inline", "--no-video", "--run.steps", "5000", "--run.eval-episodes", "1")
    handrail("train", "reach", "--out", str(folder), *options, *ROBOT, timeout=900)
    return folder


@pytest.mark.franka
@pytest.mark.timeout(1500)
def test_a_policy_trained_in_simulation_reaches_on_the_real_client(run, tmp_path, capsys):
    assert SERVER.exists(), f"{SERVER} is missing: make test-franka makes it"
    simulated = evaluated(run)
    with serve(tmp_path):
        real = evaluated(run, "--robot", "franka")["policy"]
    policy, chance = simulated["policy"], simulated["trivial/random"]
    with capsys.disabled():
        print(
            f"\nreach, {EPISODES} starts: {policy['success']:.0%} in simulation, "
            f"{real['success']:.0%} through pylibfranka, random actions {chance['success']:.0%}"
        )
    assert real["episodes"] == EPISODES
    assert policy["success"] >= 0.9
    assert chance["success"] <= 0.5, "the task is too easy to say anything"
    assert real["success"] >= 0.9
    assert real["success"] >= policy["success"] - 0.1
    log = (run / "logs" / "host.log").read_text()
    assert "fr3 at 127.0.0.1" in log
    assert "fault" not in log
