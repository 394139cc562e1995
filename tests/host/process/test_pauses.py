"""Real time: pauses and sudden death of the actor and of the host, read from the recording.

Real processes and signals. What must follow, and when, is the watchdog's table (docs/control.md).
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.faults import measure
from benchmarks.kit.fault_injection import (
    BLOWS,
    PAUSE,
    TRIES,
    Disturbed,
    acting,
    first,
    hosted,
    look,
    new_run,
    overruns,
    undisturbed,
)
from controllers.config import ControlConfig
from controllers.robot import Fault, Mode
from handrail.errors import DeviceLost, ProtocolMismatch
from handrail.run_folder import Run
from robot_env.client import HostClient
from robot_env.recorder.recording import Recording
from robot_env.recorder.replay import replay
from robot_env.recorder.ring import NAME
from robot_env.recorder.ring_recovery import left_by_crash
from robot_env.tasks import make

pytestmark = pytest.mark.wallclock
CONFIG = ControlConfig()
BUSY = 0.03  # [s], that a busy machine may be late by


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    run = new_run(tmp_path_factory.mktemp("pauses") / "run")
    with hosted(run):
        yield run


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


@pytest.mark.slow
@pytest.mark.parametrize("blow", BLOWS, ids="-".join)
def test_every_blow_leaves_what_the_table_says_when_it_says(blow, tmp_path):
    found = measure(blow, 1, tmp_path)
    assert found["broken"] == []
    assert found["blows"] == 1, "other programs kept this machine from showing anything"


def pause_undisturbed(run: Run, folder: Path) -> tuple[Recording, float, float]:
    """Return a recording of an actor that paused for 0.5 s, when it began, and when it ended."""
    for attempt in range(TRIES):
        try:
            with acting(run) as actor:
                struck, resumed = pause(actor, 0.5)
                time.sleep(0.6)
                recording = look(run, folder / str(attempt))
            undisturbed(recording, struck)
        except Disturbed:
            continue
        if not overruns(recording, struck):
            return recording, struck, resumed
    raise pytest.fail("other programs kept this machine from showing anything")


@pytest.mark.slow
def test_an_actor_that_pauses_for_500_ms_is_held_softened_and_followed_again(run, tmp_path):
    recording, struck, resumed = pause_undisturbed(run, tmp_path)
    wall, mode, tick = recording.wall, recording["mode"], recording["state.tick"]
    share, late = recording["stiffness_scale"], recording["mailbox.heartbeat"] > CONFIG.heartbeat
    after, rows = wall > struck, np.arange(len(wall))
    hold = first(after & late)
    again = first((mode == Mode.FOLLOWING) & (rows > hold))
    assert wall[again] > resumed
    assert (mode[hold:again] == Mode.HOLDING).all()
    soften = first((share < 1.0) & (rows > hold))
    assert tick[soften] - tick[hold] == pytest.approx(1e3 * CONFIG.hold_time, abs=2)
    assert share[after].min() > CONFIG.stop_stiffness
    assert recording["seq"][again] > recording["seq"][again - 1]  # its next request
    assert share[-1] == 1.0
    assert not recording["fault"][after].any()


@pytest.mark.slow
def test_an_overrun_is_recorded_under_its_name(tmp_path):
    run = new_run(tmp_path / "run")
    with hosted(run) as host, acting(run):
        _, resumed = pause(host, PAUSE)
        path = wait_for(run.folder / "recordings", "*-overrun.mcap")
    recording = Recording(path)
    at = first(recording.wake > resumed)
    late = recording["late"][at] - recording["late"][at - 1]
    assert f"overrun: {late} ticks missed at once" in [event.what for event in recording.events]
    assert recording["fault"][-1] == Fault.OVERRUN
    assert replay(recording).first is None


@pytest.mark.slow
def test_after_a_killed_host_the_next_one_follows_nobody_before_a_reset(tmp_path):
    run, task = new_run(tmp_path / "run"), make("peg")
    with hosted(run) as host, HostClient.connect(run.id, task) as client:
        snapshot, _ = client.reset(3)
        snapshot = client.step(task.request(snapshot, np.zeros(3), 0))
        host.kill()
        with pytest.raises(DeviceLost):
            client.step(task.request(snapshot, np.zeros(3), 1))
        with hosted(run):
            client.reconnect()
            with pytest.raises(ProtocolMismatch, match="refused"):
                client.step(task.request(snapshot, np.zeros(3), 2))
            assert client.peek().request_seq == -1
            assert client.reset(3)[0].mode == Mode.HOLDING


@pytest.mark.slow
def test_a_host_told_not_to_mind_makes_up_what_it_missed(tmp_path):
    run = new_run(tmp_path / "run", "overrun = 0\n")
    with hosted(run) as host, acting(run):
        struck, resumed = pause(host, 0.05)
        time.sleep(0.3)
        recording = look(run, tmp_path)
    at = first(recording.wake > resumed)
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
from robot_env.host import realtime_server as live
from robot_env.__main__ import main
def stumble(self):
    if self._core.robot.state[0] >= 300:
        raise ZeroDivisionError("a bug")
live.RealtimeServer._serve = stumble
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
