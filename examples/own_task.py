"""A task of one's own: hover over a mat; python examples/own_task.py 5 says how good its expert is.

Train on it from this folder: `handrail train FILE` with `[task] name = "own_task:Hover"` in it.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np

from controllers.config import ControlConfig
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks.__main__ import evaluate
from robot_env.tasks.base import DOWN, HOME, Task, pack, uniform
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.scenes import parts

ABOVE = np.array([0.50, 0.0, 0.20])  # base frame [m], where the tool hovers
MAT = '<geom class="visual" type="box" size=".05 .05 .001" pos=".5 0 .001" material="part_goal"/>'


class Hover(Task):
    """Success is a tool within `tolerance` of a point above the mat."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 30, "action_scale": 0.015, "tolerance": 0.01, "start_range": (0.08, 0.08, 0.04),
    }  # fmt: skip
    privileged_names: ClassVar[tuple[str, ...]] = ("success", "distance")

    def scene(self):  # noqa: D102
        return build_scene(MAT, "", parts.ASSETS, parts.CAMERAS, gripper=False)

    def reset(self, robot, rng):  # noqa: D102
        start = ABOVE + uniform(rng, self.vector("start_range"))
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), 0.0, rng)
        return ABOVE

    def privileged_state(self, robot):  # noqa: D102
        distance = float(np.linalg.norm(robot.data.site("tool").xpos - ABOVE))
        return pack(distance < self.value("tolerance"), distance)

    def expert_action(self, snapshot, goal_estimate):  # noqa: D102
        return (goal_estimate[:3] - snapshot.target_position) / self.value("action_scale")

    def distance_to_success(self, snapshot, goal_estimate):  # noqa: D102
        return self.privileged_value(snapshot, "distance")


if __name__ == "__main__":
    task = Hover(TaskConfig(name="own_task:Hover"))
    env = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
    print("expert:", evaluate(env, task.expert(np.random.default_rng(0)), int(sys.argv[1])))
    env.close()
