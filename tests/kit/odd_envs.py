"""Environments that misbehave, one fault each; `gym:odd_envs:Odd-v0` with the kwarg `fault`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LIMIT = 20  # [steps]
AT = 2  # [steps], the step that is wrong

REWARDS: dict[str, Any] = {
    "reward_none": None,
    "reward_array": np.zeros(1),
    "reward_nan": float("nan"),
    "reward_huge": 1e39,
    "reward_text": "1",
}


class Odd(gymnasium.Env[np.ndarray, np.ndarray]):
    """Right in everything but its fault."""

    observation_space = spaces.Box(-9.0, 9.0, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(
        self, fault: str = "", device: str = "", sizes: list[int] | None = None, wait: float = 0.0
    ) -> None:
        self.fault, self.wait = fault, wait
        self.sizes = sizes
        self.device = Path(device) if device else None
        if self.device is not None:
            os.close(os.open(self.device, os.O_CREAT | os.O_EXCL))  # fails while another holds it
            with self.device.with_suffix(".log").open("a", encoding="utf-8") as log:
                log.write(f"{os.getpid()}\n")
        if fault == "float_image":
            self.observation_space = spaces.Box(0.0, 1.0, (64, 64, 3), np.float32)
        if fault == "float_in_int":
            self.observation_space = spaces.Box(-9, 9, (3,), np.int32)
        if fault == "raise_in_init":
            raise RuntimeError("no such gripper")

    def _see(self) -> Any:
        return np.full(3, self.t / 10.0, np.float32)

    def reset(self, *, seed=None, options=None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        if self.fault == "input":
            input("calibrated? ")
        if self.fault == "old_reset":
            return self._see()
        return self._see(), {}

    def step(self, action: np.ndarray) -> Any:
        self.t += 1
        wrong = self.t == AT + 1
        if wrong and self.fault == "hang":
            time.sleep(self.wait or 3600.0)
        if wrong and self.fault == "system_exit":
            sys.exit(3)
        if wrong and self.fault == "os_exit":
            os._exit(4)
        if wrong and self.fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if wrong and self.fault == "raise":
            raise RuntimeError("the gripper is gone")
        observation = self._see()
        if wrong and self.fault == "shape":
            observation = np.zeros(4, np.float32)
        if wrong and self.fault == "text":
            observation = np.array(["a", "b", "c"])
        reward = REWARDS.get(self.fault, 0.5) if wrong else 0.5
        terminated = self.t >= LIMIT // 2
        info = {"is_success": True} if terminated and self.fault == "late_success" else {}
        if wrong and self.fault == "old_step":
            return observation, reward, terminated, info
        if wrong and self.fault == "flag":
            return observation, reward, None, False, info
        return observation, reward, terminated, False, info

    def close(self) -> None:
        if self.device is not None:
            self.device.unlink(missing_ok=True)


gymnasium.register("Odd-v0", "odd_envs:Odd", max_episode_steps=LIMIT)
