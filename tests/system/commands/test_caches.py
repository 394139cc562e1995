"""Caches of compiled code that a power cut damaged heal themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

NUMBA = """
from handrail.caches import use_caches
use_caches()
import numpy as np
from controllers.jacobi import symmetric_eigen
a = np.diag([3.0, 1.0, 2.0])
symmetric_eigen(a, np.zeros((3, 3)))
print(sum(symmetric_eigen.stats.cache_misses.values()))
"""
JAX = """
from handrail.caches import use_caches
use_caches()
import jax
print(float(jax.jit(lambda x: x @ x)(jax.numpy.full((64, 64), 0.5))[0, 0]))
"""


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_tail(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2] + bytes(len(body) - len(body) // 2))


def zero_middle(path: Path) -> None:
    body = bytearray(path.read_bytes())
    third = len(body) // 3
    body[third : 2 * third] = bytes(third)
    path.write_bytes(body)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def run(program: str, cache: Path) -> subprocess.CompletedProcess[str]:
    own = {"NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR"}
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment |= {"HANDRAIL_CACHE": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=120,
        env=environment,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, zero_middle])
def test_damaged_control_code_is_never_run_and_is_compiled_again(damage, tmp_path: Path):
    first = run(NUMBA, tmp_path)
    assert first.stdout.strip() == "1", first.stderr
    files = [path for path in tmp_path.rglob("*.nb[ic]")]
    assert len(files) >= 2
    for number in range(len(files)):
        damage(files[number])
        healed = run(NUMBA, tmp_path)
        assert healed.returncode == 0, healed.stderr
        assert healed.stderr.count("compiled again") == 1, healed.stderr
        again = run(NUMBA, tmp_path)
        assert again.stdout.strip() == "0", again.stderr
        assert again.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, empty, zero_tail])
def test_damaged_code_of_the_learner_is_deleted_and_compiled_again(damage, tmp_path: Path):
    first = run(JAX, tmp_path)
    assert first.stdout.strip() == "16.0", first.stderr
    files = list(tmp_path.rglob("*-cache"))
    assert files
    for path in files:
        damage(path)
        age(path, 60.0)
    healed = run(JAX, tmp_path)
    assert healed.stdout.strip() == "16.0"
    assert healed.stderr.splitlines()[0].startswith(f"{len(files)} files of compiled code")
    assert len(healed.stderr.splitlines()) == 1, healed.stderr
    assert run(JAX, tmp_path).stderr == ""
    assert sorted(tmp_path.rglob("*-cache")) == sorted(files)


@pytest.mark.slow
def test_a_file_that_a_killed_process_left_is_found_in_the_same_boot(tmp_path: Path):
    for _ in range(2):
        run(JAX, tmp_path)
    path = next(tmp_path.rglob("*-cache"))
    (stamp,) = tmp_path.rglob(".checked")
    cut(path)
    age(path, 20.0)
    age(stamp, 30.0)
    assert "1 files of compiled code" in run(JAX, tmp_path).stderr


def test_the_doctor_sees_damaged_code(tmp_path: Path):
    run(NUMBA, tmp_path)
    code = next(tmp_path.rglob("*.nbc"))
    ask = "from handrail.__main__ import main\nmain(['doctor', '--role', 'dev', '--json'])"

    def said() -> str:
        findings = json.loads(run(ask, tmp_path).stdout)["findings"]
        (state,) = [f["state"] for f in findings if f["name"] == "caches"]
        return state

    assert said() == "ok"
    cut(code)
    assert said() == "warn"
