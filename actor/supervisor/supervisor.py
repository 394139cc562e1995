"""Start host, actor and learner as processes, watch over them, and wrap the run up.

The supervisor owns the run folder. A process that dies is started again; one that dies again and
again at its start, or says that its input is wrong, ends the run with that process's own words.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handrail.errors import Error
from handrail.metrics import Metrics
from handrail.process import CORES_ENV, SUPERVISOR_ENV, split_cores
from handrail.run_folder import Run

QUICK_DEATH = 10.0  # [s], a process that dies sooner after its start died at its start
QUICK_DEATHS = 3  # in a row, after which the run gives up
GRACE = {"actor": 20.0, "learner": 30.0, "host": 10.0}  # [s], from SIGTERM to SIGKILL
MODULES = {"host": "robot_env", "learner": "learner", "actor": "actor"}
BAD_INPUT = 2  # exit code of a command whose input is wrong


class ProcessFailed(Error):
    """A process of the run can't go on; the message holds its last words."""


@dataclass
class Child:
    """One process of the run."""

    role: str
    process: subprocess.Popen[bytes]
    started: float
    quick_deaths: int = 0
    events: list[str] = field(default_factory=list)


class Supervisor:
    """Starts, restarts and ends the processes of one run."""

    def __init__(
        self, run: Run, realtime: bool = False, view: bool = False, hosted: bool = True
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            run: The run.
            realtime: The simulated arm runs in real time.
            view: The host opens a window.
            hosted: Whether the task has a control host; a gymnasium environment has none.
        """
        self._run = run
        self._roles = [role for role in MODULES if hosted or role != "host"]
        self._options = {
            "host": (["--realtime"] if realtime else []) + (["--view"] if view else [])
        }
        self._cores = split_cores(sorted(os.sched_getaffinity(0)))
        self._metrics = Metrics(run, "supervisor")
        self._children: dict[str, Child] = {}

    def start(self) -> None:
        """Start the run's processes."""
        for role in self._roles:
            self._children[role] = self._launch(role)

    def watch(self) -> bool:
        """Restart what died; return whether the actor has finished its session.

        Raises:
            ProcessFailed: A process can't go on.
        """
        for role, child in self._children.items():
            code = child.process.poll()
            if code is None:
                continue
            if role == "actor" and code == 0:
                return True
            if code == BAD_INPUT:
                raise ProcessFailed(last_log_line(self._run, role, "stopped"))
            quick = time.monotonic() - child.started < QUICK_DEATH
            deaths = child.quick_deaths + 1 if quick else 0
            if deaths >= QUICK_DEATHS:
                raise ProcessFailed(
                    last_log_line(self._run, role, f"died {deaths} times at its start")
                )
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._metrics.write("event", text=f"{role} died ({reason}), started again")
            self._children[role] = self._launch(role, deaths)
        return False

    def stop(self) -> None:
        """End every process: the actor first, so that its last rows still find the learner."""
        for role in ("actor", "learner", "host"):
            child = self._children.get(role)
            if child is None or child.process.poll() is not None:
                continue
            child.process.terminate()
            try:
                child.process.wait(GRACE[role])
            except subprocess.TimeoutExpired:
                self._metrics.write("event", text=f"{role} did not stop, killed")
                child.process.kill()
                child.process.wait()
        self._metrics.close()

    def pids(self) -> dict[str, int]:
        """Return each role's process id."""
        return {role: child.process.pid for role, child in self._children.items()}

    def _launch(self, role: str, quick_deaths: int = 0) -> Child:
        environment = {**os.environ, SUPERVISOR_ENV: str(os.getpid()), "OMP_NUM_THREADS": "1"}
        if role in self._cores:
            environment[CORES_ENV] = self._cores[role]
        if role != "learner":
            environment["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-m", MODULES[role], "--run", str(self._run.folder)]
        with open(self._run.log(role), "ab") as log:
            process = subprocess.Popen(
                command + self._options.get(role, []),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to pass on
            )
        return Child(role, process, time.monotonic(), quick_deaths)


def last_log_line(run: Run, role: str, what: str) -> str:
    """Return a line about a process that ended, with the last line that it logged.

    Args:
        run: Its run.
        role: Its role.
        what: Happened to it.
    """
    path = run.log(role)
    lines: deque[str] = deque(maxlen=1)
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as log:
        lines.extend(line.strip() for line in log if line.strip())
    return f"{role} {what}: {lines[-1] if lines else 'it said nothing'} (log: {path})"


def supervise(run: Run, supervisor: Supervisor, tick: Callable[[], None]) -> bool:
    """Run the session to its end; return False where a signal stopped it before.

    Args:
        run: The run.
        supervisor: Not started yet.
        tick: Called a few times a second, to show what goes on.

    Raises:
        ProcessFailed: A process can't go on.
    """
    stopped = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    previous = {s: signal.signal(s, ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        supervisor.start()
        finished = False
        while not (finished or stopped):
            finished = supervisor.watch()
            tick()
            time.sleep(0.1)
        return finished
    finally:
        supervisor.stop()
        tick()
        for s, handler in previous.items():
            signal.signal(s, handler)


def default_run_folder(task: str, preset: str, seed: int) -> Path:
    """Return a new name for a run folder below ./runs."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", task)  # an id like gym:Some/Env-v0 is no name of a folder
    return Path("runs") / f"{name}-{preset}-{seed}-{stamp}"
