"""Move the tool to a point in free space: the smoke test of the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controllers.robot import Snapshot
from robot_env.arms.panda_mjcf import build_scene
from robot_env.tasks.base import DOWN, HOME, Task, pack, uniform
from robot_env.tasks.scenes import parts

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

CENTRE = np.array([0.50, 0.0, 0.22])  # base frame [m], middle of starts and goals
SLOW = 0.08  # [m/s], faster than this is passing by, not arriving


class Reach(Task):
    """Sparse reward for being slow within `tolerance` of the goal."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 30,
        "action_scale": 0.015,
        "start_range": (0.03, 0.03, 0.02),
        "goal_range": (0.10, 0.12, 0.08),
        "tolerance": 0.012,
    }
    success_is_measurable: ClassVar[bool] = True  # the goal is a point that was drawn, no thing
    privileged_names: ClassVar[tuple[str, ...]] = (
        "success", "distance", "speed", "error_x", "error_y", "error_z",
    )  # fmt: skip

    def scene(self) -> str:
        """Return the robot and a marker at the goal."""
        marker = (
            '<body name="goal" mocap="true"><geom type="sphere" size="0.012" material="part_goal" '
            'class="visual"/></body>'
        )
        return build_scene(
            marker, "", parts.ASSETS, parts.CAMERAS, gripper=False, finger_width=0.01
        )

    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Draw start and goal."""
        goal = CENTRE + uniform(rng, self.vector("goal_range"))
        start = CENTRE + uniform(rng, self.vector("start_range"))
        self._goal = goal
        parts.place(robot, "goal", goal)
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), 0.0, rng)
        return goal

    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return the way to the goal and how fast the tool is, on a real robot as measured."""
        seen = robot.snapshot()
        error = self._goal - (robot.data.site("tool").xpos if robot.simulated else seen.position)
        distance = float(np.linalg.norm(error))
        speed = float(np.linalg.norm(seen.twist[:3]))
        done = distance < self.value("tolerance") and speed < SLOW
        return pack(done, distance, speed, *error)

    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action that puts the target on the goal."""
        gap = goal_estimate[:3] - snapshot.target_position
        lag = goal_estimate[:3] - snapshot.position - 0.1 * snapshot.twist[:3]
        step = gap if np.abs(gap).max() > 0.01 else 0.4 * lag
        return step / self.value("action_scale")

    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the distance to the goal [m]."""
        return self.privileged_value(snapshot, "distance")
