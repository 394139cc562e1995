"""Start host, actor and learner as processes, watch over them, and wrap the run up.

The supervisor owns the run folder. A process that dies is started again; one that dies again and
again at its start or of the same cause, or says that its input is wrong, ends the run, and the
error says why it ended.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from actor.supervisor.child import Cause, Child
from handrail.metrics import Metrics
from handrail.process import CORES_ENV, split_cores
from handrail.processes.exit_record import STARTING
from handrail.run_folder import Run

MODULES = {"host": "robot_env", "learner": "learner", "actor": "actor"}
DEATHS = 3  # in a row at the start, or of one cause, after which the run gives up
RECENT = 600.0  # [s], a process that lived longer didn't die of what its predecessor died of
FIRST_S = 0.6  # [s], for the actor, so that its last rows still find the learner
GRACE_S = 1.8  # [s], from the wish to end to SIGKILL
SAVE_S = 30.0  # [s], the same for a process that says that it is saving data
BAD_INPUT = 2  # exit code of a command whose input is wrong


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

        Raises:
            ModuleNotFoundError: What the host's process imports is not installed here.
        """
        if hosted and importlib.util.find_spec("mujoco") is None:
            raise ModuleNotFoundError("the arm's host needs mujoco", name="mujoco")
        self._run = run
        self._roles = [role for role in MODULES if hosted or role != "host"]
        self._options = {
            "host": (["--realtime"] if realtime else []) + (["--view"] if view else [])
        }
        self._cores = split_cores(sorted(os.sched_getaffinity(0)))
        self._metrics = Metrics(run, "supervisor")
        self._children: dict[str, Child] = {}
        self._hurried = False
        self._deaths = {role: Deaths() for role in self._roles}

    def start(self) -> None:
        """Start the run's processes."""
        self._metrics.write("doing", text=f"{', '.join(self._roles)} start")
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
            cause = child.cause()
            if role == "actor" and cause.finished:
                return True
            if code == BAD_INPUT:
                raise child.failure("stopped", cause)
            self._deaths[role].check(child, cause)
            self._metrics.write("event", text=f"{role} died ({cause.text}), started again")
            self._children[role] = self._launch(role)
        return False

    def stop(self, tick: Callable[[], None] = lambda: None) -> None:
        """End every process: the actor first, so that its last rows still find the learner.

        One that saves data is waited for, and that is said; the others have `GRACE_S`.

        Args:
            tick: Called while waiting.
        """
        begun, told = time.monotonic(), False
        self._terminate("actor")
        self._wait(["actor"], lambda: time.monotonic() - begun > FIRST_S, tick)
        for role in ("learner", "host"):
            self._terminate(role)

        def give_up() -> bool:
            nonlocal told
            waited = time.monotonic() - begun
            saving = [role for role in self._alive() if self._children[role].saving]
            if waited < GRACE_S or (saving and waited < SAVE_S):
                if saving and waited > FIRST_S and not told:
                    told = True
                    self._say(f"stopping: {' and '.join(saving)} saves data; again ends at once")
                return self._hurried
            return True

        self._wait(list(self._children), give_up, tick)
        for role in self._alive():
            what = "ended at once" if self._hurried else f"did not stop in {GRACE_S:g} s, killed"
            self._say(f"{role} {what}; it goes on from what it had saved")
            self._children[role].process.kill()
            self._children[role].process.wait()
        self._metrics.close()

    def hurry(self) -> None:
        """Have `stop` wait for nothing any more."""
        self._hurried = True

    def say_stopping(self) -> None:
        """Say that the run was asked to stop."""
        self._say("stopping, on request; once more ends at once")

    def _terminate(self, role: str) -> None:
        child = self._children.get(role)
        if child is None or child.process.poll() is not None:
            return
        if child.state == STARTING and role != "host":  # it has nothing to save yet
            child.process.kill()
        else:
            child.process.terminate()

    def _alive(self) -> list[str]:
        return [role for role, child in self._children.items() if child.process.poll() is None]

    def _wait(
        self, roles: list[str], give_up: Callable[[], bool], tick: Callable[[], None]
    ) -> None:
        while set(roles) & set(self._alive()) and not (self._hurried or give_up()):
            tick()
            time.sleep(0.02)

    def _say(self, text: str) -> None:
        self._metrics.write("event", text=text)

    def _launch(self, role: str) -> Child:
        environment = {"OMP_NUM_THREADS": "1"}
        if role in self._cores:
            environment[CORES_ENV] = self._cores[role]
        if role != "learner":
            environment["JAX_PLATFORMS"] = "cpu"
        return Child(self._run, role, MODULES[role], self._options.get(role, []), environment)


class Deaths:
    """The deaths of one role in a row, as far as they say that starting it again is no use."""

    def __init__(self) -> None:
        self._at_start = 0
        self._same = 0
        self._key: str | None = None

    def check(self, child: Child, cause: Cause) -> None:
        """Count a death.

        Raises:
            ProcessFailed: It was one too many at the start, or of the same cause.
        """
        lived = time.monotonic() - child.started
        self._at_start = 0 if cause.worked else self._at_start + 1
        if cause.key is None or lived > RECENT:
            self._same = 0
        else:
            self._same = self._same + 1 if cause.key == self._key else 1
        self._key = cause.key
        if self._at_start >= DEATHS:
            raise child.failure(f"died {self._at_start} times at its start", cause)
        if self._same >= DEATHS:
            raise child.failure(f"died {self._same} times of the same cause", cause)


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
        if stopped:
            supervisor.hurry()
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
        if stopped:
            supervisor.say_stopping()
        supervisor.stop(tick)
        tick()
        for s, handler in previous.items():
            signal.signal(s, handler)


def default_run_folder(task: str, preset: str, seed: int) -> Path:
    """Return a new name for a run folder below ./runs."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", task)  # an id like gym:Some/Env-v0 is no name of a folder
    return Path("runs") / f"{name}-{preset}-{seed}-{stamp}"
