"""Insert a square peg, fixed to the hand, into a hole that isn't quite where it should be.

The nominal hole is known, the true one is off by a hidden error that only contact can tell: the
peg rests on the rim, and the moment about the tool says on which side there is no support. Reward
is sparse. Compliance alone fails on most starts; friction and horizon are such that sweeping the
rim blindly fails too, which it doesn't at a friction of 0.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controllers.kinematics import TOOL
from controllers.robot import Snapshot
from robot_env.arms.panda_mjcf import build_scene
from robot_env.tasks.base import (
    DOWN,
    HOME,
    FunctionPolicy,
    ScriptedPolicy,
    Task,
    Zone,
    pack,
    uniform,
)
from robot_env.tasks.scenes import parts

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

SIDE = 0.020  # [m], of the peg's square section
LENGTH = 0.045  # [m], from the tool centre to the peg's tip
BLOCK = 0.045  # [m], height of the block, which is the depth of the hole
HOLE = np.array([0.50, 0.0, 0.0])  # base frame [m], where the block stands
ABOVE = 0.030  # [m], of the tip over the rim at the start

GAIN = 0.6  # [-], share of the error that one step of the target makes good
LEAK = 0.1  # [-], share of the spring's extension that one step gives back
LOOKAHEAD = 0.15  # [s], how far ahead the expert judges where the tool will be
APPROACH_STEPS = 12  # [steps], that search policies give themselves to get over the hole


class Peg(Task):
    """See the module; `configs/peg_far.toml` starts farther away, with less to find."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 60,
        "action_scale": 0.010,
        "start_range": (0.015, 0.015, 0.010),
        "goal_range": (0.03, 0.03, 0.0),
        "hidden_error": (0.003, 0.003, 0.0),
        "clearance": 0.001,
        "friction": 0.8,
        "depth": 0.025,
    }
    contact_zone: ClassVar[Zone | None] = Zone((0.38, -0.12, 0.0), (0.62, 0.12, 0.11), 0.08)
    privileged_names: ClassVar[tuple[str, ...]] = (
        "success", "depth", "tilt", "offset_x", "offset_y", "error_x", "error_y", "error_z",
    )  # fmt: skip

    def scene(self) -> str:
        """Return robot, block with a hole, and a peg in the hand."""
        friction = self.value("friction")
        opening = SIDE + 2.0 * self.value("clearance")
        block = parts.holder("hole", opening, 0.030, BLOCK, friction, "part_block")
        grip, half = 0.012, SIDE / 2.0
        middle, extent = (LENGTH - grip) / 2.0, (LENGTH + grip) / 2.0
        peg = (
            f'<body name="peg" pos="0 0 {TOOL[2]}" gravcomp="1">'
            f'<geom name="peg" class="task" type="box" pos="0 0 {middle}" '
            f'size="{half} {half} {extent}" mass="0.08" material="part_brass" '
            f"{parts.contact(friction)}/>"
            f'<site name="peg_tip" pos="0 0 {LENGTH}" size="0.001" rgba="0 0 0 0"/></body>'
        )
        return build_scene(
            block, peg, parts.ASSETS, parts.CAMERAS, gripper=False, finger_width=SIDE
        )

    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Place the block off its nominal place and the peg above that."""
        hole = HOLE + uniform(rng, self.vector("goal_range"))
        self._hidden = uniform(rng, self.vector("hidden_error"))
        parts.place(robot, "hole", hole + self._hidden)
        goal = hole + parts.up(BLOCK + LENGTH)
        start = goal + parts.up(ABOVE) + uniform(rng, self.vector("start_range"))
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), SIDE, rng)
        return goal

    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return depth and tilt of the peg, and the way from its tip to the true hole."""
        tip, rim = robot.data.site("peg_tip"), robot.data.site("hole_rim")
        error = rim.xpos - tip.xpos
        depth = insertion(error, SIDE)
        done = depth >= self.value("depth")
        return pack(done, depth, parts.tilt(tip.xmat), *self._hidden[:2], *error)

    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action toward the true hole: across above the rim, then down."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        return insert(snapshot, error, self.value("clearance"), self.value("action_scale"))

    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the way that the tip has left, sideways and down [m]."""
        error = np.array([self.privileged_value(snapshot, f"error_{axis}") for axis in "xyz"])
        across = float(np.linalg.norm(error[:2]))
        return across + max(0.0, self.value("depth") - error[2])

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Push, push and integrate, spiral, rock and random: none sees or feels the hole."""
        scale = self.value("action_scale")
        rules = {
            "push": lambda s, n, t: push(s, n, scale),
            "push_integrate": lambda s, n, t: push_integrate(s, n, scale),
            "spiral": lambda s, n, t: spiral(s, n, t, scale),
            "rock": lambda s, n, t: rock(s, n, t, scale),
        }
        made = {name: _factory(rule) for name, rule in rules.items()}
        return made | super().baselines

    @property
    def scripted_baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """A tuned spiral search that feels the drop: skill by hand, without the truth."""
        scale = self.value("action_scale")
        return {"search": _factory(lambda s, n, t: search(s, n, t, scale))}


def insertion(error: np.ndarray, side: float) -> float:
    """Return how deep a tip is in a hole [m], 0 beside it.

    Args:
        error: Hole's rim minus the peg's tip (3,) [m].
        side: Of the peg [m].
    """
    inside = float(np.abs(error[:2]).max()) < side / 4.0
    return max(0.0, float(error[2])) if inside else 0.0


def insert(
    snapshot: Snapshot, error: np.ndarray, clearance: float, scale: float, hover: float = 0.003
) -> np.ndarray:
    """Return the action (3,) that puts a peg into a hole whose place is known.

    Args:
        snapshot: Of the robot that holds the peg.
        error: True rim minus true tip (3,) [m].
        clearance: Per side between peg and hole [m].
        scale: Travel of the target per step at action 1 [m].
        hover: Height of the tip over the rim while it moves across [m].
    """
    ahead = error - LOOKAHEAD * snapshot.twist[:3]
    lag = snapshot.target_position - snapshot.position
    across = GAIN * ahead[:2] - LEAK * lag[:2]
    off = float(np.abs(error[:2]).max())
    if error[2] > 0.001 and off < 0.005:  # in the hole
        down = -scale
    elif off > 0.7 * clearance:
        wanted = hover if off < 0.006 else 0.010
        down = GAIN * (ahead[2] + wanted) - LEAK * lag[2]
    else:
        down = -0.6 * scale
    return np.array([*across, down]) / scale


def push(snapshot: Snapshot, goal_estimate: np.ndarray, scale: float) -> np.ndarray:
    """Return the action over the nominal hole and, near it, straight down."""
    gap = goal_estimate - snapshot.target_position
    down = -0.5 * scale if np.abs(gap[:2]).max() < 0.002 else gap[2] + 0.01
    return np.array([*gap[:2], down]) / scale


def push_integrate(snapshot: Snapshot, goal_estimate: np.ndarray, scale: float) -> np.ndarray:
    """Return the action down, with the target led until the tool itself is over the hole."""
    gap = goal_estimate - snapshot.position
    down = -0.5 * scale if np.abs(gap[:2]).max() < 0.004 else gap[2] + 0.01
    return np.array([*0.5 * gap[:2], down]) / scale


def spiral(snapshot: Snapshot, goal_estimate: np.ndarray, t: int, scale: float) -> np.ndarray:
    """Return the action along a spiral about the nominal hole, always pushing down.

    Speed and pitch are the best of a search over both; it never looks at where the tool is.
    """
    if t < APPROACH_STEPS:
        return push(snapshot, goal_estimate + parts.up(0.002), scale)
    centre = goal_estimate[:2] + on_spiral((t - APPROACH_STEPS) * 0.009, 0.0024)
    return np.array([*(centre - snapshot.target_position[:2]), -0.5 * scale]) / scale


def search(snapshot: Snapshot, goal_estimate: np.ndarray, t: int, scale: float) -> np.ndarray:
    """Return the action of a light spiral that pushes once the tool has dropped into the hole."""
    if snapshot.position[2] < goal_estimate[2] - 0.0015:
        lag = snapshot.position - snapshot.target_position
        return np.array([*(0.3 * lag[:2]), -scale]) / scale
    gap = goal_estimate - snapshot.target_position
    if t < 0.7 * APPROACH_STEPS:
        down = -scale if np.abs(gap[:2]).max() < 0.006 else 0.0
        return np.array([*gap[:2], max(down, gap[2] - 0.004)]) / scale
    centre = gap[:2] + on_spiral((t - 0.7 * APPROACH_STEPS) * 0.006, 0.0018)
    return np.array([*centre, gap[2] - 0.004]) / scale


def on_spiral(length: float, pitch: float) -> np.ndarray:
    """Return a point of an Archimedean spiral about the origin (2,) [m].

    Args:
        length: Way along the spiral from its middle [m].
        pitch: Distance between its turns [m].
    """
    radius = np.sqrt(length * pitch / np.pi)
    angle = 2.0 * np.pi * radius / pitch
    return radius * np.array([np.cos(angle), np.sin(angle)])


def rock(snapshot: Snapshot, goal_estimate: np.ndarray, t: int, scale: float) -> np.ndarray:
    """Return the action down with the target rocked about the nominal hole."""
    sway = 0.004 * np.array([np.sin(1.1 * t), np.sin(1.7 * t + 1.0)])
    gap = goal_estimate[:2] + sway - snapshot.target_position[:2]
    down = (
        -0.5 * scale
        if t > APPROACH_STEPS
        else goal_estimate[2] + 0.01 - snapshot.target_position[2]
    )
    return np.array([*gap, down]) / scale


def _factory(
    rule: Callable[[Snapshot, np.ndarray, int], np.ndarray],
) -> Callable[[np.random.Generator], ScriptedPolicy]:
    return lambda rng: FunctionPolicy(rule)
