"""Take a peg from its stand, carry it over and insert it: long, with one reward at the end.

The stand is placed at random and seen with noise; the hole is off its nominal place by a little,
unseen. The clearance is wider than `peg`'s, since a peg between two fingers is never held straight.
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
from robot_env.tasks.peg import insert, insertion
from robot_env.tasks.pick import grasp
from robot_env.tasks.scenes import parts

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

SIDE = 0.020  # [m], of the peg's square section
PEG = 0.090  # [m], its length
GRIP = 0.015  # [m], from the peg's top to where it is grasped
STAND_HEIGHT = 0.020  # [m], depth of the stand's socket
SLACK = 0.0015  # [m] per side between peg and socket
BLOCK = 0.040  # [m], height of the block with the hole
STAND = np.array([0.46, -0.11, 0.0])  # base frame [m]
HOLE = np.array([0.52, 0.11, 0.0])  # base frame [m]
ABOVE = 0.10  # [m], of the tool over the place to grasp at the start
TRAVEL = 0.020  # [m], of the tip over the block while it is carried


class Assemble(Task):
    """Success is `depth` of the peg in the hole; the truth also says how far it came."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 150,
        "action_scale": 0.015,
        "start_range": (0.03, 0.03, 0.02),
        "goal_range": (0.02, 0.02, 0.0),
        "hidden_error": (0.003, 0.003, 0.0),
        "object_range": (0.03, 0.03, 0.0),
        "object_noise": 0.001,
        "clearance": 0.0018,
        "friction": 0.5,
        "depth": 0.020,
    }
    privileged_names: ClassVar[tuple[str, ...]] = (
        "success", "depth", "tilt", "grasped", "lifted", "above", "offset_x", "offset_y",
        "error_x", "error_y", "error_z", "seen_x", "seen_y", "seen_z",
    )  # fmt: skip
    gripper: ClassVar[bool] = True
    objects: ClassVar[int] = 3

    def scene(self) -> str:
        """Return the robot, a peg in a stand, and a block with a hole."""
        friction, half = self.value("friction"), SIDE / 2.0
        stand = parts.holder(
            "stand", SIDE + 2.0 * SLACK, 0.015, STAND_HEIGHT, friction, "part_stand"
        )
        opening = SIDE + 2.0 * self.value("clearance")
        block = parts.holder("hole", opening, 0.030, BLOCK, friction, "part_block")
        peg = (
            f'<body name="peg" pos="{STAND[0]} {STAND[1]} {PEG / 2}"><freejoint name="peg"/>'
            f'<geom name="peg" class="task" type="box" size="{half} {half} {PEG / 2}" mass="0.10" '
            f'material="part_brass" {parts.contact(friction)}/>'
            f'<site name="peg_tip" pos="0 0 {-PEG / 2}" size="0.001" rgba="0 0 0 0"/>'
            f'<site name="peg_grip" pos="0 0 {PEG / 2 - GRIP}" size="0.001" rgba="0 0 0 0"/></body>'
        )
        return build_scene(stand + block + peg, "", parts.ASSETS, parts.CAMERAS)

    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Place stand, peg and block, and the open hand above the stand's nominal place."""
        self._pose_sensor = parts.ObjectPoseSensor(rng, self.value("object_noise"))
        stand = STAND + uniform(rng, self.vector("object_range"))
        hole = HOLE + uniform(rng, self.vector("goal_range"))
        self._hidden = uniform(rng, self.vector("hidden_error"))
        parts.place(robot, "stand", stand)
        parts.place(robot, "hole", hole + self._hidden)
        parts.place_free(robot, "peg", stand + parts.up(PEG / 2.0))
        start = STAND + parts.up(PEG - GRIP + ABOVE) + uniform(rng, self.vector("start_range"))
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), OPEN, rng)
        return hole + parts.up(BLOCK + PEG - GRIP)

    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return the stages reached now, the way of the tip to the hole, and what is seen."""
        data = robot.data
        tip, rim, grip = data.site("peg_tip"), data.site("hole_rim"), data.site("peg_grip")
        error = rim.xpos - tip.xpos
        upright = parts.tilt(tip.xmat)
        depth = insertion(error, SIDE) if upright < 0.2 else 0.0
        grasped = float(np.linalg.norm(grip.xpos - data.site("tool").xpos)) < SIDE
        grasped = grasped and robot.snapshot().gripper_width < SIDE + 0.008
        lifted = bool(grasped and tip.xpos[2] > STAND_HEIGHT)
        above = bool(lifted and np.abs(error[:2]).max() < 0.01)
        return pack(
            depth >= self.value("depth"),
            depth,
            upright,
            grasped,
            lifted,
            above,
            *self._hidden[:2],
            *error,
            *self._pose_sensor.read(grip.xpos),
        )

    def object_view(self, snapshot: Snapshot) -> np.ndarray:
        """Return where the peg is seen to be grasped, relative to the tool (3,), scaled."""
        return (self._seen(snapshot) - snapshot.position) / POSITION_SCALE

    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action of the next part of: grasp, lift, carry, insert."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        return self._drive(snapshot, self._seen(snapshot) - snapshot.position, error)

    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the way of the hand to the peg, and of the peg over the block and in [m]."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        hand = float(np.linalg.norm(self._seen(snapshot) - snapshot.position))
        across = float(np.linalg.norm(error[:2]))
        if self.privileged_value(snapshot, "grasped") < 0.5:
            return 0.5 + hand + across
        if across > 0.01:
            return 0.1 + across + max(0.0, TRAVEL + error[2])
        return across + max(0.0, self.value("depth") - error[2])

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """The expert without feeling: it believes the nominal hole and its eyes; and random."""

        def rule(snapshot: Snapshot, goal_estimate: np.ndarray, t: int) -> np.ndarray:
            error = goal_estimate - snapshot.position
            return self._drive(snapshot, self._seen(snapshot) - snapshot.position, error)

        return {"script_nominal": lambda rng: FunctionPolicy(rule)} | super().baselines

    def _seen(self, snapshot: Snapshot) -> np.ndarray:
        return np.array([self.privileged_value(snapshot, f"seen_{axis}") for axis in "xyz"])

    def _drive(self, snapshot: Snapshot, reach: np.ndarray, error: np.ndarray) -> np.ndarray:
        scale = self.value("action_scale")
        closed = snapshot.gripper_target < SIDE / 2.0
        firm = closed and snapshot.gripper_width < SIDE + 0.006
        if not (firm and float(np.linalg.norm(reach)) < SIDE):
            return grasp(snapshot, reach, SIDE, scale)
        ahead = error - 0.1 * snapshot.twist[:3]
        across = float(np.abs(error[:2]).max())
        if across < 0.006:
            step = insert(snapshot, error, self.value("clearance"), scale)
            return np.array([*step, 1.0])
        rise = (ahead[2] + TRAVEL) / scale
        sideways = np.zeros(2) if error[2] > -0.5 * TRAVEL else 0.5 * ahead[:2] / scale
        sideways /= max(1.0, float(np.abs(sideways).max()))
        return np.array([*sideways, rise, 1.0])
