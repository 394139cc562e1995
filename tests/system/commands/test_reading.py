"""A run is read from its folder: beside an environment that only one process can hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actor.cli.run_folders import create_configured_run, read_configured_run
from handrail.errors import RunFolderError

HELD = """
import socket, time
import gymnasium
import numpy as np


class Held(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self._port = socket.create_server(("127.0.0.1", PORT), reuse_port=False)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        time.sleep(0.05)
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def close(self):
        self._port.close()


gymnasium.register("Held-v0", entry_point=Held, max_episode_steps=20)
"""
SMALL = ("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32")


def handrail(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handrail", *arguments], cwd=folder, capture_output=True,
        encoding="utf-8", timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_that_holds_its_device_is_read_beside_it(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "held.py").write_text(HELD.replace("PORT", str(port)), encoding="utf-8")
    run = tmp_path / "run"
    with open(tmp_path / "said", "wb") as out:
        training = subprocess.Popen(
            [sys.executable, "-m", "handrail", "train", "gym:held:Held-v0", "--out", str(run),
             "--run.steps", "100000", *SMALL],
            cwd=tmp_path, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": os.pathsep.join(
                [str(tmp_path), *sys.path])},
        )  # fmt: skip
    try:
        end = time.monotonic() + 120.0
        while (
            not (run / "store.db").exists()
            or b'"episode"' not in (run / "metrics.jsonl").read_bytes()
        ):
            assert training.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < end, (tmp_path / "said").read_text()
            time.sleep(0.2)
        (tmp_path / "held.py").unlink()  # reading needs neither the device nor the code
        status = handrail(tmp_path, "status", str(run))
        assert status.returncode == 0, status.stderr
        assert "answers in" in status.stdout
        for command in (
            ("report", str(run)),
            ("data", "ls", str(run)),
            ("data", "verify", str(run)),
        ):
            done = handrail(tmp_path, *command)
            assert done.returncode == 0, done.stderr
        assert (run / "summary.json").is_file()
        assert training.poll() is None
    finally:
        training.send_signal(signal.SIGINT)
        try:
            training.wait(60)
        finally:
            training.kill()


def test_a_spec_of_another_task_is_refused(tmp_path: Path):
    run, _ = create_configured_run("reach", [], tmp_path / "run")
    read_configured_run(run.folder)
    text = run.spec.read_text(encoding="utf-8")
    run.spec.write_text(text.replace('"horizon": 30', '"horizon": 31'), encoding="utf-8")
    assert run.spec.read_text(encoding="utf-8") != text
    with pytest.raises(RunFolderError, match="changed since"):
        read_configured_run(run.folder)
