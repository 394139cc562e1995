"""The commands of docs/security.md for two hosts: real processes, two homes, keys, one death."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_audit import audit_rows

from handrail.errors import StorageError
from handrail.run_folder import open_run
from handrail.spec import load_spec
from handrail.transition import Source
from learner.store.store import Store

STEPS = 300


def free_port() -> int:
    """Return the first of three ports in a row that are free."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for i in range(3):
                stack.enter_context(socket.socket()).bind(("", port + i))
            return port


def own_address() -> str:
    """Return an address of this machine that is not loopback, where keys are required."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: only asks for the route
        return probe.getsockname()[0]
    return "127.0.0.1"


class Host:
    """A home of its own, in which commands run."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with open(self.home / f"{arguments[0]}.out", "a") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "handrail", *arguments],
                cwd=self.home,
                env={**os.environ, "HOME": str(self.home)},
                stdout=out,
                stderr=out,
                text=True,
            )

    def run(self, *arguments: str) -> str:
        assert self.start(*arguments).wait(120) == 0, self.said(arguments[0])
        return self.said(arguments[0])

    def ask(self, code: int = 0) -> dict[str, Any]:
        """Return what `handrail status` says here."""
        asked = self.start("status", "runs/reach", "--json")
        assert asked.wait(60) == code, self.said("status")
        return json.loads(self.said("status").splitlines()[-1])

    def said(self, command: str) -> str:
        return (self.home / f"{command}.out").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hosts_train_over_keys_and_a_dead_learner_comes_back(tmp_path: Path) -> None:
    learner, robot = Host(tmp_path / "learner"), Host(tmp_path / "robot")
    key = {h: re.findall(r"[0-9a-f]{64}", h.run("keys", "new"))[0] for h in (learner, robot)}
    learner.run("keys", "allow", "robot", key[robot])
    robot.run("keys", "allow", "learner", key[learner])
    words = ["new", "reach", "--out", "runs/reach", "--run.steps", str(STEPS), "--run.journal"]
    words += ["--link.address", own_address(), "--link.port", str(free_port())]
    assert "handrail learner --run reach" in robot.run(*words)
    shutil.copytree(robot.home / "runs", learner.home / "runs")

    store_path = learner.home / "runs" / "reach" / "store.db"
    with contextlib.ExitStack() as stack:

        def start(host: Host, role: str) -> subprocess.Popen[str]:
            process = host.start(role, "--run", "runs/reach")
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        teacher, arm = start(learner, "learner"), start(robot, "host")
        actor = start(robot, "actor")
        spec = load_spec(open_run(learner.home / "runs" / "reach").spec)

        def stored() -> int:
            if not store_path.exists():
                return 0
            try:
                with Store(store_path, spec, readonly=True) as store:
                    return store.count(Source.ONLINE)
            except StorageError:
                return 0  # the learner is just making it; one that stays so ends at the deadline

        deadline = time.monotonic() + 240.0
        killed = False
        while actor.poll() is None:
            assert time.monotonic() < deadline, robot.said("actor") + learner.said("learner")
            if not killed and stored() >= STEPS // 2:
                status = robot.ask()
                assert status["learner"]["env_steps"] >= STEPS // 2
                assert status["actor"]["connected"]
                assert status["actor"]["disk_free_bytes"] > 0
                assert status["actor"]["age"] < 30.0
                teacher.kill()
                teacher.wait()
                assert "waited 2 s for learner's answer" in robot.ask(code=1)["learner"]["error"]
                teacher, killed = start(learner, "learner"), True
            time.sleep(0.2)
        assert actor.returncode == 0, robot.said("actor")
        assert killed
        for process in (teacher, arm):
            process.terminate()
        assert teacher.wait(60) == 0, learner.said("learner")
    assert audit_rows(robot.home / "runs" / "reach", learner.home / "runs" / "reach") >= STEPS
    assert "not on the list" not in learner.said("learner")
