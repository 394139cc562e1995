"""Grasp a cube from the table and lift it.

The cube's place and turn are random; the policy sees the place with noise, not the turn. Success is
a cube in the air between the fingers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controllers.robot import Snapshot
from robot_env.arms.panda_mjcf import build_scene
from robot_env.tasks.base import (
    DOWN,
    HOME,
    OPEN,
    POSITION_SCALE,
    FunctionPolicy,
    ScriptedPolicy,
    Task,
    pack,
    uniform,
)
from robot_env.tasks.scenes import parts

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

SIDE = 0.040  # [m], of the cube
PLACE = np.array([0.50, 0.0, SIDE / 2.0])  # base frame [m], nominal middle of the cube
ABOVE = 0.12  # [m], of the tool over the cube's middle at the start
NEAR = 0.020  # [m], a cube farther than this from the tool isn't between the fingers


class Pick(Task):
    """Sparse reward for a cube held `depth` above where it lay."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 60,
        "action_scale": 0.015,
        "start_range": (0.03, 0.03, 0.02),
        "object_range": (0.06, 0.06, 0.0),
        "object_yaw": 0.35,
        "object_noise": 0.006,
        "friction": 0.9,
        "depth": 0.08,
    }
    privileged_names: ClassVar[tuple[str, ...]] = (
        "success", "lift", "held", "error_x", "error_y", "error_z", "seen_x", "seen_y", "seen_z",
        "tilt",
    )  # fmt: skip
    gripper: ClassVar[bool] = True
    objects: ClassVar[int] = 3

    def scene(self) -> str:
        """Return the robot and a free cube."""
        half = SIDE / 2.0
        cube = (
            f'<body name="cube" pos="{PLACE[0]} {PLACE[1]} {PLACE[2]}"><freejoint name="cube"/>'
            f'<geom name="cube" class="task" type="box" size="{half} {half} {half}" mass="0.08" '
            f'material="part_cube" {parts.contact(self.value("friction"))}/></body>'
        )
        return build_scene(cube, "", parts.ASSETS, parts.CAMERAS)

    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Put the cube down somewhere and the open hand above the middle."""
        self._pose_sensor = parts.ObjectPoseSensor(rng, self.value("object_noise"))
        cube = PLACE + uniform(rng, self.vector("object_range"))
        yaw = rng.uniform(-1.0, 1.0) * self.value("object_yaw")
        parts.place_free(robot, "cube", cube, yaw)
        start = PLACE + parts.up(ABOVE) + uniform(rng, self.vector("start_range"))
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), OPEN, rng)
        return PLACE.copy()

    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return height and hold of the cube, the way to it, and what is seen of it."""
        cube = robot.data.body("cube")
        error = cube.xpos - robot.data.site("tool").xpos
        lift = float(cube.xpos[2]) - PLACE[2]
        held = lift > 0.004 and float(np.linalg.norm(error)) < NEAR
        return pack(
            held and lift >= self.value("depth"),
            lift,
            held,
            *error,
            *self._pose_sensor.read(cube.xpos),
            parts.tilt(cube.xmat),
        )

    def object_view(self, snapshot: Snapshot) -> np.ndarray:
        """Return the seen cube relative to the tool (3,), scaled."""
        seen = np.array([self.privileged_value(snapshot, f"seen_{axis}") for axis in "xyz"])
        return (seen - snapshot.position) / POSITION_SCALE

    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action of the next part of: over the cube, down, close, up."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        return grasp(snapshot, error, SIDE, self.value("action_scale"))

    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the way to the cube plus the height that it lacks [m]."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        away = float(np.linalg.norm(error))
        return away + max(0.0, self.value("depth") - self.privileged_value(snapshot, "lift"))

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Grasp blindly at the middle, and random."""
        scale = self.value("action_scale")

        def blind(snapshot: Snapshot, goal_estimate: np.ndarray, t: int) -> np.ndarray:
            if snapshot.gripper_target < SIDE / 2.0:  # closed on something or nothing: up
                settled = snapshot.gripper_width < SIDE + 0.006
                return np.array([0.0, 0.0, 1.0 if settled else 0.0, 1.0])
            return grasp(snapshot, goal_estimate - snapshot.position, SIDE, scale)

        return {"grasp_nominal": lambda rng: FunctionPolicy(blind)} | super().baselines


def grasp(snapshot: Snapshot, error: np.ndarray, side: float, scale: float) -> np.ndarray:
    """Return the action (4,) that grasps a thing and lifts it.

    Args:
        snapshot: Of the robot.
        error: Place to grasp minus tool (3,) [m].
        side: Width of the thing between the fingers [m].
        scale: Travel of the target per step at action 1 [m].
    """
    ahead = error - 0.1 * snapshot.twist[:3]
    off = float(np.linalg.norm(error[:2]))
    closed = snapshot.gripper_target < side / 2.0
    if closed and off < 0.5 * side and abs(error[2]) < NEAR:
        settled = snapshot.gripper_width < side + 0.006
        return np.array([0.0, 0.0, 1.0 if settled else 0.0, 1.0])
    over = 0.5 * side + 0.035  # [m], high enough for open fingers to pass over it
    if off > 0.15 * side:
        low = error[2] > -over + 0.01 and off > 0.5 * side
        across = np.zeros(2) if low else 0.6 * ahead[:2]
        return np.array([*across / scale, (ahead[2] + over) / scale, -1.0])
    if error[2] < -0.006:
        return np.array([*0.6 * ahead[:2] / scale, 0.7 * ahead[2] / scale, -1.0])
    return np.array([*0.3 * ahead[:2] / scale, 0.3 * ahead[2] / scale, 1.0])
