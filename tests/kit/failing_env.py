"""A gymnasium environment that fails at a step, in one of the ways in which people's own do."""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import os, signal, sys, threading
import gymnasium
import numpy as np


class Failing(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, way="raise", at=60, reward=1.0):
        self.way, self.at, self.reward, self.count = way, at, reward, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        reward = self.reward
        if self.count == self.at:
            self.fail()
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), reward, False, False, {}

    def fail(self):
        if self.way == "raise":
            raise ValueError("the gripper\\nis open")  # the line that is asked for
        if self.way == "exit":
            sys.exit(0)  # the line that is asked for
        if self.way == "os_exit":
            os._exit(7)
        if self.way == "os_exit_0":
            os._exit(0)
        if self.way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)  # the line that is asked for
        if self.way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


gymnasium.register("Failing-v0", Failing, max_episode_steps=25)
"""


def write_failing_env(folder: Path) -> Path:
    """Write the module `failing` below a folder; return its file."""
    path = folder / "failing.py"
    path.write_text(SOURCE)
    return path


def lines_asked_for(path: Path) -> dict[str, int]:
    """Return the line at which each way fails that has one."""
    ways, lines = {}, path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if "asked for" in line:
            ways[lines[number - 2].split('"')[1]] = number
    return ways
