"""The product as a user starts it: real processes, real sockets, real files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from made_audit import audit_rows

KILLS = int(os.environ.get("HANDRAIL_KILLS", "1"))  # of each role; the long run has 20 or more
ROLES = {"host": "robot_env", "actor": "actor", "learner": "learner"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "handrail", *arguments]


def child_of(supervisor: psutil.Process, role: str) -> psutil.Process | None:
    for child in supervisor.children():
        try:
            if ROLES[role] in child.cmdline():
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def metrics_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def wait_until(condition, timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)


def nothing_left_of(run: Path) -> bool:
    return not any(
        str(run) in " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid()
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_reach_is_learned_from_scratch_through_the_whole_stack(tmp_path: Path):
    run = tmp_path / "run"
    began = time.monotonic()
    done = subprocess.run(
        command("train", "reach", "--out", str(run)), capture_output=True, text=True, timeout=580
    )
    print(f"reach took {time.monotonic() - began:.0f} s in all")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["success"] >= 0.95, summary
    assert summary["episodes"] == 50
    for name in ("report.png", "policy.mp4", "config.toml", "store.db", "metrics.jsonl"):
        assert (run / name).stat().st_size > 0, name
    assert nothing_left_of(run)


@pytest.mark.slow
@pytest.mark.timeout(0 if KILLS > 1 else 600)
def test_killed_processes_cost_no_row_and_training_goes_on(tmp_path: Path):
    run = tmp_path / "run"
    steps = max(700, 700 * KILLS)
    rng = random.Random(0)
    with open(tmp_path / "out", "w") as out:
        train = subprocess.Popen(
            command(
                *("train", "reach", "--out", str(run), "--no-video", "--run.journal"),
                *("--run.steps", str(steps), "--run.eval-episodes", "2"),
            ),
            stdout=out,
            stderr=out,
        )
    try:
        supervisor = psutil.Process(train.pid)
        order = [role for _ in range(KILLS) for role in ROLES]
        for i, role in enumerate(order):
            # the next kill comes once training has gone on after the last one
            goal = steps * i // (len(order) + 1) + rng.randrange(1, 40)
            wait_until(
                lambda goal=goal: (
                    any(
                        row.get("env_steps", 0) >= goal and row["kind"] == "actor"
                        for row in metrics_of(run)[-400:]
                    )
                    or train.poll() is not None
                ),
                300,
                f"{goal} training steps before killing the {role}",
            )
            time.sleep(rng.random())
            victim = child_of(supervisor, role) if train.poll() is None else None
            assert victim is not None, (tmp_path / "out").read_text()
            victim.send_signal(signal.SIGKILL)
        assert train.wait(900) == 0, (tmp_path / "out").read_text()
    finally:
        if train.poll() is None:
            train.kill()
    deaths = [row for row in metrics_of(run) if "died (SIGKILL)" in str(row.get("text"))]
    assert len(deaths) == len(order)
    audit_rows(run, run)
    wait_until(lambda: nothing_left_of(run), 10, "the processes to end")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_stops_cleanly_and_resume_goes_on(tmp_path: Path):
    run = tmp_path / "run"
    options = ("--run.steps", "400", "--run.eval-episodes", "2", "--no-video")
    train = subprocess.Popen(
        command("train", "reach", "--out", str(run), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(
        lambda: (
            any(row["kind"] == "actor" and row.get("env_steps", 0) > 20 for row in metrics_of(run))
            or train.poll() is not None
        ),
        120,
        "training to begin",
    )
    train.send_signal(signal.SIGINT)
    output, _ = train.communicate(timeout=60)
    assert train.returncode == 130, output
    assert f"--resume {run}" in output
    assert "Traceback" not in output
    assert nothing_left_of(run)
    steps = max(row.get("env_steps") or 0 for row in metrics_of(run))

    resumed = subprocess.run(
        command("train", "--resume", str(run), "--no-video"),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["env_steps"] >= max(steps, 400)
    records = [r for r in metrics_of(run) if r["kind"] == "episode" and r["phase"] == "record"]
    assert len({r["episode"] for r in records}) == len(records), "demonstrations recorded twice"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_supervisor_killed_leaves_no_process_behind(tmp_path: Path):
    run = tmp_path / "run"
    train = subprocess.Popen(
        command("train", "reach", "--out", str(run)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    supervisor = psutil.Process(train.pid)
    wait_until(lambda: len(supervisor.children()) == 3, 60, "three processes")
    time.sleep(2.0)
    train.kill()
    train.wait()
    wait_until(lambda: nothing_left_of(run), 20, "the orphans to end")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "knot"), "no task 'knot'; shipped are"),
        (("train", "missing.toml"), "no config file missing.toml"),
        (("train", "--resume", "nowhere"), "is not a run folder"),
        (("eval", "nowhere"), "is not a run folder"),
        (("bc", "nowhere"), "is not a run folder"),
        (("report", "nowhere"), "is not a run folder"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments, words, tmp_path: Path):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
