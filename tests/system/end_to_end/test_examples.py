"""The examples run as a newcomer runs them, with small budgets, and are short enough to copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"


def example(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True, text=True, timeout=280, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_then_act_then_read_the_rows(tmp_path: Path):
    said = example("train.py", "run", "60", cwd=tmp_path)
    assert "after 60 steps" in said
    acted = example("load_and_act.py", "run", "2", cwd=tmp_path)
    assert len(re.findall(r"episode \d: success (?:True|False), \d+ steps", acted)) == 2
    rows = example("read_rows.py", "run", cwd=tmp_path)
    assert len(re.findall(r"^demo \d+: \d+ steps, return 1.00, success True", rows, re.M)) == 5
    assert re.search(r"^online \d+: \d+ steps", rows, re.M)


@pytest.mark.slow
def test_own_environment_trains_and_passes_the_checker(tmp_path: Path):
    assert re.search(r"success \d+%", example("own_gym_env.py", "run", "120", cwd=tmp_path))
    checked = subprocess.run(
        [sys.executable, "-m", "handrail", "check-env", "gym:own_gym_env:Rail-v0"],
        capture_output=True, text=True, timeout=120, cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "nothing is wrong" in checked.stdout, checked.stderr


@pytest.mark.slow
def test_the_expert_of_the_own_task_solves_it(tmp_path: Path):
    assert "'success': 1.0" in example("own_task.py", "3", cwd=tmp_path)


def test_each_is_short_linked_and_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert len(names) == 5
    here, readme = Path(__file__).read_text(), (ROOT / "README.md").read_text(encoding="utf-8")
    for name in names:
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 60, name
        assert f"examples/{name}" in readme
        assert f'"{name}"' in here
