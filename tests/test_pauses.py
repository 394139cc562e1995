"""Real time: pauses and sudden death of the actor and of the host, read from the recording.

Real processes and signals. What must follow, and when, is the watchdog's table (docs/control.md).
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from controllers.config import ControlConfig
from controllers.robot import Fault, Mode
from handrail.runs import Run, create_run
from robot_env.client import HostClient
from robot_env.recorder.recording import Recording
from robot_env.recorder.replay import replay
from robot_env.recorder.ring import NAME
from robot_env.recorder.tail import left_by_crash, read_ring
from robot_env.recorder.write import save
from robot_env.tasks import make

CONFIG = ControlConfig()
BEAT = 0.004  # [s], between the actor's heartbeats
BUSY = 0.03  # [s], that a busy machine may be late by

ACTOR = """
import sys
import numpy as np
from robot_env.client import HostClient
from robot_env.tasks import make
task = make("peg")
client = HostClient.connect(sys.argv[1], task, deadline=120)
snapshot, nominal = client.reset(3)
for step in range(600):
    turn = 1.0 if step // 6 % 2 == 0 else -1.0
    action = np.array([turn, 0.5 * turn, 0.2 * turn])
    snapshot = client.step(task.request(snapshot, action, snapshot.request_seq + 1))
    if step == 4:
        print("begun", flush=True)
"""


def new_run(folder: Path, more: str = "") -> Run:
    text = f'[task]\nname = "peg"\n\n[host]\nrecorder = 8.0\n{more}'
    return create_run(folder, "peg", make("peg").spec.hash, text)


@contextlib.contextmanager
def hosted(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    with open(run.log("host"), "ab") as log:
        command = [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--realtime"]
        process = subprocess.Popen(command, stderr=log)
        try:
            with HostClient.connect(run.id, deadline=120):
                pass
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            process.wait(timeout=60)


@contextlib.contextmanager
def acting(run: Run) -> Iterator[subprocess.Popen[str]]:
    actor = subprocess.Popen(
        [sys.executable, "-c", ACTOR, run.id], stdout=subprocess.PIPE, text=True
    )
    with actor:
        assert actor.stdout is not None
        assert actor.stdout.readline() == "begun\n"
        try:
            yield actor
        finally:
            actor.kill()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    run = new_run(tmp_path_factory.mktemp("pauses") / "run")
    with hosted(run):
        yield run


def look(run: Run, folder: Path) -> Recording:
    """Return a recording of what the ring holds now; its host takes no notice."""
    return Recording(save(read_ring(run.folder / NAME), folder, "test", 100))


def pause(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", seconds: float):
    """Stop a process for a while; return when it was stopped and when it went on [s]."""
    process.send_signal(signal.SIGSTOP)
    struck = time.monotonic()
    time.sleep(seconds)
    resumed = time.monotonic()
    process.send_signal(signal.SIGCONT)
    return struck, resumed


def wait_for(folder: Path, pattern: str, seconds: float = 30.0) -> Path:
    end = time.monotonic() + seconds
    while not (found := sorted(folder.glob(pattern))):
        assert time.monotonic() < end, f"no {pattern} in {sorted(folder.iterdir())}"
        time.sleep(0.05)
    return found[-1]


def first(wall: np.ndarray, where: np.ndarray) -> float:
    """Return the time of the first tick of which something is true."""
    assert where.any()
    return float(wall[np.argmax(where)])


def test_an_actor_that_pauses_for_50_ms_is_never_stopped(run, tmp_path):
    with acting(run) as actor:
        struck, resumed = pause(actor, 0.05)
        time.sleep(0.4)
        recording = look(run, tmp_path)
    after = recording.wall > struck
    mode, wall = recording["mode"][after], recording.wall[after]
    assert set(mode) <= {Mode.FOLLOWING, Mode.HOLDING}
    assert not recording["fault"][after].any()
    held = wall[mode == Mode.HOLDING]
    if len(held):  # its last beat may be 4 ms older than the pause
        assert held[0] - struck > CONFIG.heartbeat - BEAT - 1e-3
        assert held[-1] - resumed < 0.1 + BUSY  # until its next request
    assert (mode[wall > resumed + 0.1 + BUSY] == Mode.FOLLOWING).all()


def test_an_actor_that_pauses_for_500_ms_is_held_softened_and_followed_again(run, tmp_path):
    with acting(run) as actor:
        struck, resumed = pause(actor, 0.5)
        time.sleep(0.6)
        recording = look(run, tmp_path)
    after = recording.wall > struck
    mode, wall, share = recording["mode"][after], recording.wall[after], recording["share"][after]
    hold = first(wall, mode == Mode.HOLDING)
    assert -BEAT - 1e-3 < hold - struck - CONFIG.heartbeat < BUSY
    assert (mode[(wall > hold) & (wall < resumed)] == Mode.HOLDING).all()
    soften = first(wall, share < 1.0)
    assert soften - hold == pytest.approx(CONFIG.hold_time, abs=BUSY)
    assert share.min() > CONFIG.stop_stiffness
    again = first(wall, (mode == Mode.FOLLOWING) & (wall > resumed))
    assert again - resumed < 0.1 + BUSY  # its next request
    assert share[-1] == 1.0
    assert not recording["fault"][after].any()


def test_a_killed_actor_leaves_what_the_table_says_when_it_says(run, tmp_path):
    with acting(run) as actor:
        struck = time.monotonic()
        actor.kill()
        time.sleep(1.3)
        recording = look(run, tmp_path)
    after = recording.wall > struck
    mode, wall, share = recording["mode"][after], recording.wall[after], recording["share"][after]
    hold = first(wall, mode == Mode.HOLDING)
    assert hold - struck < CONFIG.heartbeat + BUSY
    assert first(wall, share < 1.0) - hold == pytest.approx(CONFIG.hold_time, abs=BUSY)
    stop = first(wall, mode == Mode.SOFT_STOP)
    assert stop - hold == pytest.approx(CONFIG.stop_time, abs=BUSY)
    assert recording["fault"][-1] == Fault.HEARTBEAT_LOST
    assert share[-1] == pytest.approx(CONFIG.stop_stiffness)
    assert "the client was lost" in [event.what for event in recording.events]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_a_host_that_overruns_stops_as_a_robot_would(tmp_path, seconds):
    run = new_run(tmp_path / "run")
    with hosted(run) as host, acting(run):
        struck, resumed = pause(host, seconds)
        path = wait_for(run.folder / "recordings", "*-overrun.mcap")
    recording = Recording(path)
    wall, mode = recording.wall, recording["mode"]
    missed = 1e3 * (resumed - struck)
    pause_at = int(np.argmax(wall > resumed))
    late = recording["late"][pause_at] - recording["late"][pause_at - 1]
    assert missed - 5 <= late <= missed + 1e3 * BUSY
    assert mode[pause_at - 1] == Mode.FOLLOWING
    assert (mode[pause_at:] == Mode.SOFT_STOP).all()
    assert recording["fault"][-1] == Fault.OVERRUN
    assert f"overrun: {late} ticks missed at once" in [event.what for event in recording.events]
    steps = np.abs(np.diff(recording["tick.torque"], axis=0)).max()
    assert steps <= CONFIG.torque_rate + 1e-9
    speed = np.linalg.norm(np.diff(recording["pose"][-300::20, :3], axis=0), axis=1) / 0.02
    assert speed.max() < 5e-3
    assert replay(recording).first is None


@pytest.mark.slow
def test_a_host_told_not_to_mind_makes_up_what_it_missed(tmp_path):
    run = new_run(tmp_path / "run", "overrun = 0\n")
    with hosted(run) as host, acting(run):
        struck, resumed = pause(host, 0.05)
        time.sleep(0.3)
        recording = look(run, tmp_path)
    at = int(np.argmax(recording.wall > resumed))
    late = recording["late"][at] - recording["late"][at - 1]
    assert late >= 1e3 * (resumed - struck) - 5
    together = recording["tick.wake"] == recording["tick.wake"][at]
    assert together.sum() == late + 1
    assert (recording["mode"][at:] != Mode.SOFT_STOP).all()
    assert not recording["fault"][at:].any()


@pytest.mark.slow
def test_a_killed_host_loses_no_tick_and_is_saved_once(tmp_path):
    run = new_run(tmp_path / "run")
    folder = run.folder / "recordings"
    with hosted(run) as host, acting(run):
        struck = time.monotonic()
        host.kill()
    recording = Recording(wait_for(folder, "*-the-host-died.mcap"))
    assert -3e-3 < recording.wall[-1] - struck < BUSY
    assert recording["mode"][-1] == Mode.FOLLOWING
    assert recording.torn <= 1
    verdict = replay(recording)
    assert verdict.first is None
    assert verdict.gaps == 0
    assert verdict.ticks > 300
    with hosted(run):
        pass
    assert [path.name for path in folder.iterdir()] == [recording.path.name]
    assert not left_by_crash(run.folder / NAME)


@pytest.mark.slow
def test_a_host_killed_with_its_scribe_is_saved_by_the_next_one(tmp_path):
    run = new_run(tmp_path / "run")
    with hosted(run) as host, acting(run):
        (scribe,) = psutil.Process(host.pid).children()
        scribe.kill()
        struck = time.monotonic()
        host.kill()
    assert not (run.folder / "recordings").exists()
    assert left_by_crash(run.folder / NAME)
    with hosted(run):
        path = wait_for(run.folder / "recordings", "*-found-after-a-crash.mcap", 1.0)
    recording = Recording(path)
    assert -BUSY < recording.wall[-1] - struck < BUSY
    assert replay(recording).first is None
    assert "the last host was killed" in run.log("host").read_text()


@pytest.mark.slow
def test_a_host_that_raises_is_saved_under_the_name_of_its_exception(tmp_path):
    run = new_run(tmp_path / "run")
    code = """
import sys
from robot_env import live
from robot_env.__main__ import main
def stumble(self):
    if self._core.robot.state[0] >= 300:
        raise ZeroDivisionError("a bug")
live.LiveServer._serve = stumble
main(["--realtime", "--run", sys.argv[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.folder)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr
    path = wait_for(run.folder / "recordings", "*-exception-zerodivisionerror-a-bug.mcap")
    assert len(Recording(path)) >= 290
