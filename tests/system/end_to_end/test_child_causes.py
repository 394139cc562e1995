"""What ends a process of a run is said: exception, message and the user's own line, or signal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from failing_env import lines_asked_for, write_failing_env

from actor.supervisor.child import Child, ProcessFailed, oom_kills
from actor.supervisor.supervisor import DEATHS, Deaths
from handrail.run_folder import Run, create_run

BODY = """
import faulthandler, os, signal, sys, threading
from handrail.processes.exit_record import RUNNING, record_error, record_state

def main(argv):
    way = argv[2]
    if "works" in argv:
        record_state(RUNNING)
    print("2026-12-01 03:00:00 an unrelated line", file=sys.stderr, flush=True)
    if way == "raise":
        raise KeyError("torque")  # line raise
    if way == "wrapped":
        try:
            int("x")  # line wrapped
        except ValueError as error:
            json_error(error)
    if way == "argument":
        import json
        json.loads("{")  # line argument
    if way == "exit_0":
        sys.exit(0)  # line exit_0
    if way == "os_exit":
        os._exit(7)
    if way == "os_exit_0":
        os._exit(0)
    if way == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)  # line crash
    if way == "abort":
        os.abort()  # line abort
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "thread":
        worker = threading.Thread(target=lambda: 1 / 0)  # line thread
        worker.start(), worker.join()
        os._exit(5)
    return 0

def json_error(error):
    from handrail.errors import StorageError
    raise StorageError("no place left") from error
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    package = tmp_path / "dying"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(BODY)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return create_run(tmp_path / "run", "reach", "0", "")


def end_of(run: Run, *options: str, module: str = "dying") -> tuple[Child, str]:
    child = Child(run, "actor", module, list(options))
    child.process.wait(60)
    return child, child.cause().text


def line_of(way: str) -> int:
    return next(n for n, text in enumerate(BODY.splitlines(), 1) if text.endswith(f"# line {way}"))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("raise", "KeyError: 'torque' at {file}:{line}"),
        ("wrapped", "StorageError: no place left at {file}:"),
        ("argument", "JSONDecodeError: Expecting property name enclosed in double quotes"),
        ("exit_0", "SystemExit: 0 at {file}:{line}"),
        ("os_exit", "exit code 7, in the middle of its work; it said last: 2026-12-01"),
        ("os_exit_0", "exit code 0, in the middle of its work; it said last: 2026-12-01"),
        ("crash", "SIGSEGV at {file}:{line}"),
        ("abort", "SIGABRT at {file}:{line}"),
        ("kill", "SIGKILL"),
        ("thread", "exit code 5, in the middle of its work, after ZeroDivisionError: division by"),
    ],
)
def test_every_end_of_a_process_says_what_it_was_and_where(run: Run, way: str, words: str):
    child, text = end_of(run, way)
    file = run.folder.parent / "dying" / "__main__.py"
    with_line = "{line}" in words
    assert text.startswith(words.format(file=file, line=line_of(way) if with_line else 0))
    if way == "argument":  # raised in a library: the user's line is what is asked for
        assert text.endswith(f" at {file}:{line_of(way)}")
    cause = child.cause()
    assert not cause.finished
    assert (cause.key is None) == (way == "kill")


def test_an_import_that_fails_is_said_too(run: Run):
    _, text = end_of(run, "nothing", module="no_such_package")
    assert text.startswith("ModuleNotFoundError: No module named 'no_such_package'")


def test_an_end_is_told_by_its_own_start_alone(run: Run):
    end_of(run, "raise")
    assert end_of(run, "kill")[1] == "SIGKILL"
    child, _ = end_of(run, "nothing")
    assert child.cause().finished
    (run.folder.parent / "dying" / "__main__.py").write_text(
        "def main(argv):\n    import os\n    os._exit(9)\n"
    )
    assert end_of(run, "x")[1] == "exit code 9, in the middle of its work; it said nothing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("raise",), f"died {DEATHS} times at its start: KeyError: 'torque' at "),
        (("raise", "works"), f"died {DEATHS} times of the same cause: KeyError: 'torque' at "),
        (("kill",), f"died {DEATHS} times at its start: SIGKILL"),
    ],
)
def test_only_who_has_not_worked_died_at_its_start(run: Run, options: tuple[str, ...], words: str):
    deaths = Deaths()
    for _ in range(DEATHS - 1):
        child, _ = end_of(run, *options)
        deaths.check(child, child.cause())
    child, _ = end_of(run, *options)
    with pytest.raises(ProcessFailed, match=f"actor {words}"):
        deaths.check(child, child.cause())


def test_one_that_is_killed_from_outside_is_started_again_and_again(run: Run):
    deaths = Deaths()
    for _ in range(2 * DEATHS):
        child, _ = end_of(run, "kill", "works")
        deaths.check(child, child.cause())


def test_the_kernels_count_of_processes_killed_for_memory_is_read(tmp_path: Path):
    assert oom_kills(tmp_path) == 0
    for name, text in (
        ("sys/fs/cgroup/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("proc/vmstat", "nr_free_pages 4\noom_kill 5\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == 7
    assert oom_kills() >= 0


def train(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [
            *(sys.executable, "-m", "handrail", "train", "gym:failing:Failing-v0", "--no-video"),
            *("--out", str(folder / "run"), "--run.steps", "100", "--run.eval-episodes", "1"),
            *("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32"),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "exit", "crash"])
def test_an_environment_that_fails_ends_the_run_with_its_own_words(tmp_path: Path, way: str):
    path = write_failing_env(tmp_path)
    done = train(tmp_path, "--gym.kwargs", "way", way)
    place = f"{path}:{lines_asked_for(path)[way]}"
    words = {"raise": "ValueError: the gripper is open", "exit": "SystemExit: 0"}
    cause = f"{words.get(way, 'SIGSEGV')} at {place}"
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"actor died {DEATHS} times of the same cause: {cause} (log:" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    events = [row["text"] for row in rows if row["kind"] == "event"]
    assert events[: DEATHS - 1] == [f"actor died ({cause}), started again"] * (DEATHS - 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "exit"])
def test_an_inline_run_ends_with_the_environments_words_too(tmp_path: Path, way: str):
    path = write_failing_env(tmp_path)
    done = train(tmp_path, "--gym.kwargs", "way", way, "--inline")
    words = {"raise": "ValueError: the gripper is open", "exit": "SystemExit: 0"}[way]
    place = f"{path}:{lines_asked_for(path)[way]}"
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == f"handrail train: error: {words} at {place}"
