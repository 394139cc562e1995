"""A real-time host and an actor, as processes, and the signals that strike them."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controllers.robot import Mode
from handrail.run_folder import Run, create_run
from robot_env.client import HostClient
from robot_env.recorder.mcap_writer import save
from robot_env.recorder.recording import Recording
from robot_env.recorder.ring import NAME
from robot_env.recorder.ring_recovery import read_ring
from robot_env.tasks import make

PAUSE = 0.05  # [s]
TRIES = 6  # blows for one that no other program disturbed

ACTOR = """
import sys, time
import numpy as np
from handrail.errors import DeviceLost
from robot_env.client import HostClient
from robot_env.tasks import make
task = make("peg")
client = HostClient.connect(sys.argv[1], task, deadline=120)
try:
    snapshot, nominal = client.reset(3)
    for step in range(600):
        turn = 1.0 if step // 6 % 2 == 0 else -1.0
        action = np.array([turn, 0.5 * turn, 0.2 * turn])
        snapshot = client.step(task.request(snapshot, action, snapshot.request_seq + 1))
        if step == 4:
            print("begun", flush=True)
except DeviceLost:
    print(time.monotonic(), flush=True)
"""


class Blow(NamedTuple):
    """Who is struck, and how: a pause of 50 ms, SIGSTOP for longer, or SIGKILL."""

    who: str  # actor, host, both
    how: str  # pause, stop, kill


BLOWS = [
    Blow(who, how) for who, how in product(("actor", "host", "both"), ("pause", "stop", "kill"))
]


class Disturbed(Exception):
    """The machine itself stalled the processes, so that this blow shows nothing."""


class Struck(NamedTuple):
    """What a blow left."""

    recording: Recording  # of the flight recorder's ring, also where its host is dead
    struck: float  # [s], monotonic clock, before the signal was sent
    resumed: float  # [s], before a paused process was told to go on; as `struck` if it never was
    lost: float  # [s], when the actor noticed that its host was gone; nan where it didn't


def new_run(folder: Path, more: str = "") -> Run:
    """Return a run of the peg task that records 8 s."""
    text = f'[task]\nname = "peg"\n\n[host]\nrecorder = 8.0\n{more}'
    return create_run(folder, "peg", make("peg").spec.hash, text)


@contextlib.contextmanager
def hosted(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a real-time host of a run that is ready, in a process."""
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
    """Keep an actor that moves the arm to and fro, in a process; it has begun."""
    actor = subprocess.Popen(
        [sys.executable, "-c", ACTOR, run.id], stdout=subprocess.PIPE, encoding="utf-8"
    )
    with actor:
        assert actor.stdout is not None
        if actor.stdout.readline() != "begun\n":
            raise Disturbed("the actor lost its host before anybody struck")
        try:
            yield actor
        finally:
            actor.kill()


def look(run: Run, folder: Path) -> Recording:
    """Return a recording of what the ring holds now; its host takes no notice."""
    return Recording(save(read_ring(run.folder / NAME), folder, "test", 100))


def signal_all(pids: list[int], blow: signal.Signals) -> float:
    """Send a signal to processes and return when, before the first got it [s]."""
    now = time.monotonic()
    for pid in pids:
        os.kill(pid, blow)
    return now


def strike(
    run: Run, host: subprocess.Popen[bytes], blow: Blow, folder: Path, wait: float = 0.0
) -> Struck:
    """Strike while an actor moves the arm, and return what the ring holds afterwards.

    Args:
        run: Of the host.
        host: Alive; after `kill` of it, it is dead.
        blow: Whom to strike, and how.
        folder: For the recording.
        wait: From the actor's fifth step to the blow [s].

    Raises:
        Disturbed: The arm was not followed, or the host overran, before the blow.
    """
    lost = float("nan")
    with acting(run) as actor:
        time.sleep(wait)
        pids = {"actor": [actor.pid], "host": [host.pid], "both": [host.pid, actor.pid]}[blow.who]
        if blow.how == "kill":
            struck = resumed = signal_all(pids, signal.SIGKILL)
        else:
            struck = signal_all(pids, signal.SIGSTOP)
            long = 1.5 if blow.who != "both" else 0.5
            time.sleep(PAUSE if blow.how == "pause" else long)
            resumed = struck
            if blow != Blow("actor", "stop"):
                resumed = signal_all(pids, signal.SIGCONT)
        if blow.who == "host" and blow.how != "pause":
            assert actor.stdout is not None
            lost = float(actor.stdout.readline())
        time.sleep(
            {"pause": 0.5, "stop": 0.3, "kill": 1.3 if blow.who == "actor" else 0.0}[blow.how]
        )
        if "kill" in blow and blow.who != "actor":
            host.wait()
        recording = look(run, folder)
    undisturbed(recording, struck)
    return Struck(recording, struck, resumed, lost)


def overruns(recording: Recording, since: float, until: float = math.inf) -> int:
    """Return how often the host overran between two times [s]."""
    events = [event for event in recording.events if event.what.startswith("overrun")]
    return sum(since < event.time < until for event in events)


def undisturbed(recording: Recording, struck: float) -> None:
    """Refuse a recording in which the machine struck first.

    Raises:
        Disturbed: The arm was not followed, or the host overran, before the blow.
    """
    before = recording["mode"][recording.wall < struck][-100:]
    if len(before) < 100 or (before != Mode.FOLLOWING).any():
        raise Disturbed(f"the arm was in {set(before.tolist())} before the blow")
    if overruns(recording, struck - 1.0, struck):
        raise Disturbed("the host overran before the blow")


def first(where: np.ndarray) -> int:
    """Return the row of the first tick of which something is true."""
    assert where.any(), "it never happened"
    return int(np.argmax(where))
