"""Run folders: made, worked on step by step, reproduced to the bit, refused when they are wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handrail.errors import RunFolderError
from handrail.run_folder import create_run, lock_run, open_run, read_metrics

SMALL = ("--run.steps", "120", "--run.demos", "4", "--run.eval-episodes", "2")
SMALL += ("--base.max-steps", "200")


def handrail(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handrail", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=cwd)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal"))
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    done = handrail("train", "reach", "--inline", "--no-video", "--out", run, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.mark.slow
def test_inline_runs_of_one_seed_are_equal_to_the_bit(trained: Path, tmp_path: Path):
    again = tmp_path / "again"
    done = handrail("train", "reach", "--inline", "--no-video", "--out", again, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    arrays = [sorted(run.glob("checkpoints/*.safetensors"))[-1] for run in (trained, again)]
    assert arrays[0].name == arrays[1].name
    assert arrays[0].read_bytes() == arrays[1].read_bytes()


@pytest.mark.slow
def test_trained_policy_loads_in_three_lines(trained: Path):
    from learner.policy.load import load_policy

    policy = load_policy(trained)
    action = policy.act(np.zeros(policy.spec.state, np.float32)).action
    assert action.shape == (3,)
    assert np.abs(action).max() <= 1.0


@pytest.mark.slow
def test_record_bc_eval_report_and_train_work_on_the_same_folder(tmp_path: Path):
    run = tmp_path / "run"
    done = handrail("record", "reach", "--out", run, "--episodes", "3", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "3 demonstrations" in done.stdout
    done = handrail("record", "--run", run, "--episodes", "4")
    assert done.returncode == 0, done.stderr
    assert "4 demonstrations" in done.stdout
    done = handrail("bc", run)
    assert done.returncode == 0, done.stderr
    assert "validation_loss" in done.stdout
    done = handrail("eval", run, "--episodes", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["base"]["episodes"] == 3
    summary = json.loads((run / "summary.json").read_text())
    assert summary["base_success"] == result["base"]["success"], "the run had no evaluation yet"
    assert summary["episodes"] == 3
    done = handrail("train", "--resume", run, "--inline", "--no-video")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(read_metrics(run / "metrics.jsonl"))
    recorded = [r for r in rows if r["kind"] == "episode" and r["phase"] == "record"]
    assert len(recorded) == 4
    done = handrail("report", run)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "summary.json").read_text())["env_steps"] >= 120


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_steps_and_with_nothing_else_changed(
    trained: Path, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    done = handrail("train", "--resume", run, "--learner.utd", "4", "--inline")
    assert done.returncode == 2
    assert "keeps learner.utd = 2.0, got 4" in done.stderr
    done = handrail("train", "--resume", run, "--run.steps", "100", "--inline")
    assert "run.steps must be 120 or more" in done.stderr
    done = handrail("train", "--resume", run, "--run.steps", "150", "--inline", "--no-video")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["env_steps"] == 150
    assert summary["episodes"] == 2
    assert "total_steps = 150" in (run / "config.toml").read_text()


def spoil_checkpoint(run: Path) -> None:
    path = sorted(run.glob("checkpoints/*.safetensors"))[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def spoil_store(run: Path) -> None:
    (run / "store.db").write_bytes(b"not a database" * 1000)
    for suffix in ("-wal", "-shm"):
        (run / f"store.db{suffix}").unlink(missing_ok=True)


def make_newer(run: Path) -> None:
    identity = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**identity, "format": 99}))


def make_other_task(run: Path) -> None:
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("tolerance = 0.02", "tolerance = 0.03"))


def misspell(run: Path) -> None:
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("eval_episodes", "eval_epsiodes"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_checkpoint, "damaged"),
        (spoil_store, "store"),
        (make_newer, "format 99"),
        (make_other_task, "was made for task reach with hash"),
        (misspell, "did you mean 'eval_episodes'?"),
    ],
)
def test_wrong_folder_is_refused_in_one_line_and_left_as_it_is(
    trained: Path, tmp_path: Path, spoil, words: str
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    spoil(run)
    before = digest(run)
    done = handrail("train", "--resume", run, "--inline", "--no-video")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    after = digest(run)
    after["run.json"] = before["run.json"]  # the run's clock goes on
    assert after == before


def test_folder_that_is_not_empty_is_not_taken(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="not empty"):
        create_run(tmp_path, "reach", "hash", "")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_folder_in_use_names_its_holder(tmp_path: Path):
    run = create_run(tmp_path / "run", "reach", "hash", "")
    with (
        lock_run(run),
        pytest.raises(RunFolderError, match=r"in use by process \d+"),
        lock_run(run),
    ):
        pass
    with lock_run(open_run(run.folder)):
        pass
