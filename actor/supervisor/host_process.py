"""A run's host as a process of one command: started, connected to, ended with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from actor.supervisor.child import Child
from handrail.errors import DeviceLost
from handrail.run_folder import Run
from robot_env.client import HostClient
from robot_env.tasks.base import Task

PATIENCE = 120.0  # [s], for a host that compiles and connects to its robot
_GRACE = 20.0  # [s], to bring the arm to rest and finish a recording
_QUIET = 1.0  # [s], of that without a word
_ATTEMPT = 0.5  # [s], between looks whether the host is still alive


@contextlib.contextmanager
def running_host(run: Run, task: Task, robot: str) -> Iterator[HostClient]:
    """Yield authority over the arm of a host that lives as long as the context.

    Args:
        run: Its run folder; the host logs there.
        task: Task that is meant.
        robot: What it drives, one of `host.config.RobotName`.

    Raises:
        ProcessFailed: The host ended; the message says why.
        DeviceLost: It did not become ready in time.
    """
    child = Child(run, "host", "robot_env", ["--robot", robot])
    process = child.process
    try:
        with _connect(run, task, child) as client:
            yield client
    except DeviceLost:
        if process.poll() is None:
            raise
        raise child.failure("died", child.cause()) from None
    finally:
        process.terminate()
        try:
            process.wait(_QUIET)
        except subprocess.TimeoutExpired:
            print("waiting for the host to bring the arm to rest", file=sys.stderr, flush=True)
        try:
            process.wait(_GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def _connect(run: Run, task: Task, child: Child) -> HostClient:
    process = child.process
    client, end = HostClient(run.id, task.spec.hash), time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            raise child.failure("stopped", child.cause())
        try:
            client.reconnect(_ATTEMPT)
        except DeviceLost:
            if time.monotonic() > end:
                raise
            continue
        if client.welcome["pid"] == process.pid:
            return client
        client.close()
        raise DeviceLost(f"process {client.welcome['pid']} is this run's host; stop it first")
