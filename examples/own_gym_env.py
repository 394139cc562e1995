"""A gymnasium environment of one's own: python examples/own_gym_env.py runs/my-rail 400.

From this folder the commands know it as `gym:own_gym_env:Rail-v0`:
`handrail check-env gym:own_gym_env:Rail-v0`, `handrail train gym:own_gym_env:Rail-v0`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from actor.cli.run_folders import create_configured_run
from actor.loop.run_inline import run_inline
from actor.report.summary import summarise


class Rail(gymnasium.Env):
    """Push a cart along a rail to its middle."""

    observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)  # place [m], speed [m/s]
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)  # force

    def reset(self, *, seed=None, options=None):
        """Put the cart somewhere."""
        super().reset(seed=seed)
        self.place, self.speed = float(self.np_random.uniform(-1.0, 1.0)), 0.0
        return self._observe(), {}

    def step(self, action):
        """Push; near the middle and slow is success."""
        self.speed = float(np.clip(self.speed + 0.2 * action[0], -1.0, 1.0))
        self.place = float(np.clip(self.place + 0.2 * self.speed, -2.0, 2.0))
        done = abs(self.place) < 0.1 and abs(self.speed) < 0.3
        return self._observe(), -abs(self.place), done, False, {"is_success": done}

    def _observe(self):
        return np.array([self.place, self.speed], np.float32)


gymnasium.register("Rail-v0", f"{__name__}:Rail", max_episode_steps=50)

if __name__ == "__main__":
    overrides = ["--gym.success-key", "is_success", "--run.steps", sys.argv[2]]
    overrides += ["--run.eval-episodes", "5", "--learner.hidden", "32", "32"]
    overrides += ["--learner.num-qs", "2"]
    run, config = create_configured_run("gym:Rail-v0", overrides, Path(sys.argv[1]))
    run_inline(run, config)
    print(f"success {summarise(run.folder)['success']:.0%}")
