"""Ctrl-C, wherever a run stands, ends it in two seconds with a line; a second one at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from actor.cli.run_folders import create_configured_run
from handrail.errors import LinkTimeout
from handrail.processes.stop import Stopped, Wait

PROMPT = 2.0  # [s], from Ctrl-C to the end
BUSY = """
import os, sys, time
from handrail.processes.exit_record import saving
from handrail.processes.stop import stop_on_signals
with stop_on_signals(ends=True) as stop:
    print("ready", flush=True)
    if sys.argv[1] == "saving":
        with saving():
            time.sleep(0.1)
            while not stop.is_set():
                time.sleep(0.01)
            time.sleep(2.5)
            print("saved", flush=True)
    elif sys.argv[1] == "looks":
        stop.wait(60)
    elif sys.argv[1] == "deaf":  # as in a compiler: no handler of Python's runs
        import hashlib
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)
"""


def stopped(way: str, *, again: float | None = None) -> tuple[float, int, str, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, way], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    if again is not None:
        time.sleep(again)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return time.monotonic() - begun, process.returncode, out, err


def test_one_that_looks_at_its_request_ends_in_an_orderly_way():
    took, code, _, err = stopped("looks")
    assert (code, err) == (0, "")
    assert took < PROMPT


def test_one_that_can_not_look_is_ended_in_time_with_a_line():
    took, code, _, err = stopped("deaf")
    assert code == 130
    assert "stopped in the middle of its work" in err
    assert took < PROMPT


def test_one_that_saves_is_waited_for_and_says_so():
    _, code, out, err = stopped("saving")
    assert (code, out) == (0, "saved\n")
    assert "data is being saved" in err


@pytest.mark.parametrize("way", ["saving", "deaf"])
def test_a_second_signal_ends_at_once(way: str):
    took, code, out, err = stopped(way, again=0.3)
    assert code == 130
    assert "ended at once" in err
    assert out == ""
    assert took < 1.0


def test_a_wait_says_what_it_waits_for_and_ends_by_deadline_or_request():
    said: list[str] = []
    asked = [False]
    wait = Wait("the tide", 3600.0, lambda: asked[0], said.append)
    wait.check()
    assert not said
    wait._say_at = wait._begun = time.monotonic() - 5.0
    wait.check()
    wait.check()
    assert said == ["waiting for the tide, 5 s so far"]
    asked[0] = True
    with pytest.raises(Stopped):
        wait.check()
    with pytest.raises(LinkTimeout, match=r"for the tide, in vain; it is low"):
        Wait("the tide", -1.0, lambda: False, said.append).check("; it is low")


def rows_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def in_phase(run: Path, phase: str) -> bool:
    return any(row.get("phase") == phase for row in rows_of(run))


def at_moment(run: Path, out: Path, moment: str) -> bool:
    if moment == "imports":
        return True
    if moment == "start":
        return (run / "logs" / "actor.log").exists() or in_phase(run, "record")
    if moment == "record":
        return any(row["kind"] == "episode" for row in rows_of(run))
    if moment == "base":
        return any(row["kind"] == "base" for row in rows_of(run))
    if moment == "compile":
        return any(row["kind"] == "actor" and row.get("env_steps", 0) > 30 for row in rows_of(run))
    if moment == "evaluation":
        return any(row["kind"] == "eval" for row in rows_of(run))
    assert moment == "film"
    return "filming" in out.read_text()


def slowdown() -> float:
    """Return how much longer a bare loop takes here now than it would alone, 1 or more."""
    wall, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.2:
        pass
    return max(1.0, (time.monotonic() - wall) / 0.2)


def hear_ctrl_c() -> None:
    """Have children listen to SIGINT, also where this test runs in a shell's background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SMALL = (
    *("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32"),
    *("--learner.utd", "1", "--run.eval-episodes", "30", "--run.steps", "60"),
)


def interrupt(folder: Path, moment: str, *options: str, signals: int = 1) -> tuple[float, int, str]:
    run, out = folder / "run", folder / "out"
    hear_ctrl_c()
    with open(out, "w") as log:
        train = subprocess.Popen(
            [sys.executable, "-m", "handrail", "train", *options, "--out", str(run), *SMALL],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 200
        while not at_moment(run, out, moment):
            assert train.poll() is None, out.read_text()
            assert time.monotonic() < deadline, f"never came to {moment}: {out.read_text()}"
            time.sleep(0.02)
        time.sleep(0.3)
        begun = time.monotonic()
        for _ in range(signals):
            train.send_signal(signal.SIGINT)
            time.sleep(0.05)
        code = train.wait(60)
        took = time.monotonic() - begun
    finally:
        train.kill()
        train.wait()
    left = [p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])]
    assert not left
    return took, code, out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "options"),
    [
        ("imports", ("pendulum",)),
        ("start", ("reach",)),
        ("record", ("peg",)),
        ("compile", ("pendulum",)),
        ("evaluation", ("pendulum", "--no-video")),
        ("film", ("reach",)),
        ("base", ("peg", "--inline", "--run.demos", "2")),
        ("compile", ("pendulum", "--inline")),
        ("evaluation", ("pendulum", "--inline", "--no-video")),
    ],
)
def test_ctrl_c_ends_a_run_in_two_seconds_with_a_line(tmp_path: Path, moment: str, options):
    took, code, said = interrupt(tmp_path, moment, *options)
    print(f"{moment} of {options}: {took:.2f} s")
    assert code == 130, said
    assert "stop" in said.splitlines()[-1] or "no policy.mp4: stopped" in said, said
    assert "Traceback" not in said
    assert took < PROMPT * slowdown(), said


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path: Path):
    took, code, said = interrupt(tmp_path, "compile", "pendulum", signals=2)
    assert code == 130, said
    assert took < 1.0 * slowdown()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["actor", "learner", "robot_env"])
def test_ctrl_c_ends_a_process_that_was_started_alone(tmp_path: Path, role: str):
    run, _ = create_configured_run("reach", [], tmp_path / "run")
    for moment in (4.0, 8.0):  # while it imports or compiles, and while it waits for the others
        process = subprocess.Popen(
            [sys.executable, "-m", role, "--run", str(run.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        time.sleep(moment)
        assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        took = time.monotonic() - begun
        assert took < PROMPT * slowdown(), out
