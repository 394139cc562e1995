"""A run's host as a process of one command: started, connected to, ended with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from actor.supervisor.supervisor import ProcessFailed, last_log_line
from handrail.errors import DeviceLost
from handrail.process import SUPERVISOR_ENV
from handrail.run_folder import Run
from robot_env.client import HostClient
from robot_env.tasks.base import Task

PATIENCE = 120.0  # [s], for a host that compiles and connects to its robot
_GRACE = 20.0  # [s], to bring the arm to rest and finish a recording
_ATTEMPT = 0.5  # [s], between looks whether the host is still alive


@contextlib.contextmanager
def running_host(run: Run, task: Task, robot: str) -> Iterator[HostClient]:
    """Yield authority over the arm of a host that lives as long as the context.

    Args:
        run: Its run folder; the host logs there.
        task: Task that is meant.
        robot: What it drives, one of `host.config.RobotName`.

    Raises:
        ProcessFailed: The host ended at its start; the message has its last words.
        DeviceLost: It did not become ready in time.
    """
    command = [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--robot", robot]
    environment = {**os.environ, SUPERVISOR_ENV: str(os.getpid())}
    with open(run.log("host"), "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        with _connect(run, task, process) as client:
            yield client
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _connect(run: Run, task: Task, process: subprocess.Popen[bytes]) -> HostClient:
    client, end = HostClient(run.id, task.spec.hash), time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            raise ProcessFailed(last_log_line(run, "host", "stopped"))
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
