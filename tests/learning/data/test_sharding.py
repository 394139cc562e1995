"""Minibatches cut over several devices give the same learner; what isn't there is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sharded
from made_rows import SPEC

from handrail.errors import ConfigError
from learner.config import BaseConfig, LearnerConfig
from learner.trainer import Trainer

ROOT = Path(__file__).resolve().parents[3]
KIT = ROOT / "tests" / "kit"
DEADLINE = 120.0  # [s]


def start(*arguments: str, devices: int = 1) -> subprocess.Popen[str]:
    """Start a process with so many devices of its own."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(KIT)]),
    }
    command = [sys.executable, str(KIT / "sharded.py"), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes; none outlives the test."""
    try:
        for process in processes:
            _, said = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Compare up to the order of sums over the rows of a minibatch."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        if "sent_" in name:
            continue
        assert array.dtype == other[name].dtype
        np.testing.assert_allclose(other[name], array, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    return sharded.run(devices=1)


@pytest.mark.slow
def test_four_devices_of_one_process_give_the_same_learner_as_one(alone, tmp_path):
    out = tmp_path / "out.npz"
    finish(start(str(out), "--devices", "4", devices=4))
    with np.load(out, allow_pickle=False) as arrays:
        assert_same(alone, dict(arrays))
        # each row goes to one device only
        last = f"metrics/{sharded.CALLS - 1}"
        assert arrays[f"{last}/sent_bytes"] == alone[f"{last}/sent_bytes"]
        assert arrays[f"{last}/sent_copies"] == 4 * alone[f"{last}/sent_copies"]


@pytest.mark.slow
def test_two_processes_with_a_device_each_give_the_same_learner_as_one(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outs = [tmp_path / f"{process}.npz" for process in range(2)]
    finish(*[
        start(
            str(out), "--devices", "2", "--replay", "device",
            "--coordinator", address, "--process", str(process),
        )
        for process, out in enumerate(outs)
    ])  # fmt: skip
    for out in outs:
        with np.load(out, allow_pickle=False) as arrays:
            assert_same(alone, dict(arrays))


def test_devices_that_are_not_there_are_refused_with_their_number():
    config = LearnerConfig(preset="rlpd", residual_on="zeros", collect_with="policy", devices=2)
    with pytest.raises(ConfigError, match=r"learner\.devices must be at most 1, .* got 2"):
        Trainer(config, BaseConfig(kind="none"), SPEC)


def test_batch_that_devices_cannot_share_equally_is_refused():
    with pytest.raises(ConfigError, match=r"batch must be a multiple of devices \(3\).* got 128"):
        LearnerConfig(devices=3)
    with pytest.raises(ConfigError, match="devices must be at least 1"):
        LearnerConfig(devices=0)
