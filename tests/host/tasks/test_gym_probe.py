"""The checker of environments: what ends a process, or never ends, is named and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from handrail.errors import ConfigError
from robot_env.gym.config import GymConfig
from robot_env.gym.make import UnknownEnvironment
from robot_env.gym.probe import Probe, probe_env
from robot_env.tasks.config import TaskConfig

NAME = "gym:odd_envs:Odd-v0"
KIT = Path(__file__).resolve().parents[2] / "kit"
ROOT = KIT.parents[1]


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_environments(monkeypatch):
    monkeypatch.chdir(KIT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def probe(
    fault: str, said: list[str] | None = None, deadline: float = 60.0, **kwargs: Any
) -> Probe:
    said = [] if said is None else said
    config = GymConfig(kwargs={"fault": fault, **kwargs})
    return probe_env(TaskConfig(name=NAME), config, said.append, seconds=30.0, deadline=deadline)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("system_exit", r"step 2 raised SystemExit: 3 at .*odd_envs.py:\d+; right is to raise"),
        ("os_exit", "step 2 ended the whole process with exit code 4"),
        ("crash", r"step 2 ended the whole process by SIGSEGV at .*odd_envs.py:\d+"),
        ("raise", r"step 2 raised RuntimeError: the gripper is gone at .*odd_envs.py:\d+"),
        ("raise_in_init", r"making it raised RuntimeError: no such gripper at .*odd_envs.py:\d+"),
        ("input", r"reset raised EOFError.*standard input is empty in a run.*\[gym\] kwargs"),
        ("reward_none", "step 2 returned the reward None"),
        ("old_reset", "reset returned an array"),
        ("float_image", "as an image"),
    ],
)
def test_what_ends_or_spoils_it_is_named_with_the_step(fault: str, words: str):
    with pytest.raises(ConfigError, match=f"{NAME}: {words}|{NAME} .*{words}"):
        probe(fault)


@pytest.mark.wallclock
def test_a_call_that_never_returns_is_said_and_ends_at_its_deadline():
    said: list[str] = []
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"step 2 has not returned for 5 s at .*odd_envs.py:\d+"):
        probe("hang", said, deadline=5.0)
    assert time.monotonic() - began < 60.0
    assert [text for text in said if "step 2 has not returned" in text]


def test_a_good_one_is_taken_to_the_end_of_an_episode():
    found = probe("")
    assert (found.spec.state, found.spec.action, found.steps, found.ended) == (3, 2, 10, True)
    assert found.notes == []


def test_what_is_only_untidy_is_noted_once():
    (note,) = probe("float_in_int").notes
    assert "DtypeObservation" in note


def test_it_leaves_no_device_open(tmp_path: Path):
    device = tmp_path / "device"
    for _ in range(2):
        assert probe("", device=str(device)).ended
    assert not device.exists()


def test_an_id_that_nobody_registers_is_said_to_be_unknown():
    with pytest.raises(UnknownEnvironment, match="did you mean 'Pendulum-v1'"):
        probe_env(TaskConfig(name="gym:Pendulm-v1"), GymConfig(), print)


def handrail(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handrail", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_the_command_says_what_it_is_or_what_is_wrong(tmp_path: Path):
    good = handrail("check-env", NAME)
    assert good.returncode == 0, good.stderr
    assert "10 random steps, to the end of an episode: nothing is wrong" in good.stdout
    assert "reports returns only" in good.stdout
    file = tmp_path / "odd.toml"
    file.write_text(f'[task]\nname = "{NAME}"\n[gym]\nkwargs = {{ fault = "shape" }}\n')
    bad = handrail("check-env", str(file))
    assert bad.returncode == 2
    assert "step 2 returned the observation" in bad.stderr
    assert len(bad.stderr.splitlines()) == 1
    assert handrail("check-env", "reach").returncode == 2


@pytest.mark.slow
def test_a_run_stops_at_the_door_before_it_has_a_folder(tmp_path: Path):
    run = tmp_path / "run"
    done = handrail("train", NAME, "--gym.kwargs", "fault", "crash", "--out", str(run))
    assert done.returncode == 2
    assert "step 2 ended the whole process by SIGSEGV" in done.stderr
    assert not run.exists()


@pytest.mark.slow
def test_a_module_and_a_device_in_the_current_folder_serve_every_process(tmp_path: Path):
    device, run = tmp_path / "device", tmp_path / "run"
    small = ["--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32"]
    budget = ["--run.steps", "40", "--run.eval-episodes", "1", "--learner.utd", "1"]
    done = handrail(
        "train", NAME, "--gym.kwargs", "device", str(device), "--out", str(run), "--no-video",
        *small, *budget,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not device.exists()
    opened = device.with_suffix(".log").read_text().split()
    assert len(opened) == len(set(opened)) == 2, "once at the door, once by the actor"
