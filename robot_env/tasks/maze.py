"""Bring a peg, fixed to the hand, through a maze that only touch tells of.

The policy knows where start and goal are and what it feels, not where walls are. It says where the
spring's end goes and how stiff the spring is across the board; height and orientation are held.
Layout 1 is for training, 2 (its mirror) and 3 (a zig-zag with a dead end) are held out. The reward
is the distance as the crow flies, which leads into corners: whoever follows it straight gets stuck.

Source:
    H. Zhang et al., "SRL-VIC: A Variable Stiffness-Based Safe Reinforcement Learning for
    Contact-Rich Robotic Tasks", RA-L 2024: the kind of task; dimensions are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controllers.packed import STATE
from controllers.robot import Authority, Request, Snapshot
from robot_env.arms.panda_mjcf import build_scene
from robot_env.tasks.base import (
    DOWN,
    ERROR_SCALE,
    HOME,
    TANK_SCALE,
    VELOCITY_SCALE,
    FunctionPolicy,
    ScriptedPolicy,
    Task,
    Zone,
    pack,
    uniform,
)
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.scenes import parts
from robot_env.tasks.scenes.maze_board import FLOOR, LENGTH, ORIGIN, RADIUS, TIP, board, peg
from robot_env.tasks.scenes.maze_layout import (
    Cell,
    corridors,
    locate_on_path,
    middle,
    path_length,
    point_ahead,
)

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

TOOL_HEIGHT = FLOOR + TIP + LENGTH  # base frame [m], of the tool centre, held
BOARD = np.array([*ORIGIN, TOOL_HEIGHT])  # the board's origin at the height of the tool

SOFTEST, STIFFEST = 100.0, 3000.0  # [N/m], of the spring across, at action -1 and +1
REACH = 0.3  # [m], the board's side: scale of the reward and of what is seen of start and goal
BONUS = 10.0  # [-], reward at the goal
SEEN_FORCE, SEEN_MOMENT = 40.0, 2.0  # [N], [N m]
AHEAD = 0.025  # [m], how far ahead of the tool the expert aims along the corridor
ACROSS = 0.0  # [-], the expert's stiffness action across its direction; along it +1


class Maze(Task):
    """See the module. Truth beyond success: way to go, share of it done, peak force, energy."""

    defaults: ClassVar[dict[str, Any]] = {
        "horizon": 150,
        "action_scale": 0.010,
        "start_range": (0.008, 0.008, 0.0),
        "goal_range": (0.005, 0.005, 0.0),
        "friction": 0.3,
        "tolerance": 0.015,
        "layout": 1,
        "stiffness_action": True,
        "wall_stiffness": 1e5,
        "force_limit": 20.0,
        "energy_budget": 25.0,  # the expert puts in 17 J: it pays for damping all the way
    }
    privileged_names: ClassVar[tuple[str, ...]] = (
        "success", "distance", "to_go", "completed", "force_peak", "work", "energy_active",
        "error_x", "error_y",
    )  # fmt: skip
    contact_zone: ClassVar[Zone | None] = Zone(
        (ORIGIN[0] - 0.01, ORIGIN[1] - 0.01, 0.0),
        (ORIGIN[0] + REACH + 0.01, ORIGIN[1] + REACH + 0.01, TOOL_HEIGHT + 0.02),
        0.12,
    )

    def __init__(self, config: TaskConfig) -> None:
        """Resolve the config and lay out corridors and observation."""
        super().__init__(config)
        self.maze = corridors(self.value("layout", int))
        self.start: Cell | None = None  # episodes begin here instead, to collect data

    @property
    def action_size(self) -> int:
        """Number of action dimensions, A: the step across and, if asked for, two stiffnesses."""
        return 4 if self.value("stiffness_action", bool) else 2

    def observation_parts(self) -> dict[str, int]:
        """Return the parts of the observation in order: name and length."""
        across = ("start", "goal", "error", "velocity", "force")
        rest = {"action": self.action_size, "stiffness": 2, "tank": 1, "gate": 1, "time_left": 1}
        return dict.fromkeys(across, 2) | {"moment": 1} | rest

    # ---- host side --------------------------------------------------------------------------

    def scene(self) -> str:
        """Return robot, board with walls, and a peg in the hand."""
        friction, stiffness = self.value("friction"), self.value("wall_stiffness")
        return build_scene(
            board(self.maze, friction, stiffness),
            peg(friction, stiffness),
            parts.ASSETS,
            parts.CAMERAS,
            gripper=False,
            finger_width=2.0 * RADIUS,
        )

    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Draw start and goal in their cells; return goal and start, each (3,) [m]."""
        start = over(self.start or self.maze.start) + uniform(rng, self.vector("start_range"))
        goal = over(self.maze.goal) + uniform(rng, self.vector("goal_range"))
        self._goal, self._force_peak = goal, 0.0
        self._whole = path_length(self.maze, self.maze.start, (goal - BOARD)[:2])
        parts.place(robot, "goal", np.array([*goal[:2], FLOOR]))
        robot.reset(robot.inverse_kinematics(start, DOWN, HOME), 2.0 * RADIUS, rng)
        return np.concatenate([goal, start])

    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return distance and way to the goal, and what the episode has cost so far."""
        tool = robot.data.site("tool").xpos
        error = (self._goal - tool)[:2]
        distance = float(np.linalg.norm(error))
        to_go = locate_on_path(self.maze, (tool - BOARD)[:2], (self._goal - BOARD)[:2]).to_go
        completed = min(max(1.0 - to_go / self._whole, 0.0), 1.0)
        self._force_peak = max(self._force_peak, float(robot.state[STATE.force_peak]))
        done = distance < self.value("tolerance")
        energy = (robot.work, robot.energy_active)
        return pack(done, distance, to_go, completed, self._force_peak, *energy, *error)

    # ---- env side ---------------------------------------------------------------------------

    def observe(
        self, snapshot: Snapshot, goal_estimate: np.ndarray, last_action: np.ndarray, t: int
    ) -> np.ndarray:
        """Return the state vector (S,) float32; of the maze there is only what is felt."""
        stiffness = np.maximum(snapshot.stiffness[:2], 1.0)  # 1 N/m: the spring has been let go
        return np.concatenate(
            [
                (snapshot.position - goal_estimate[3:6])[:2] / REACH,
                (goal_estimate[:3] - snapshot.position)[:2] / REACH,
                (snapshot.target_position - snapshot.position)[:2] / ERROR_SCALE,
                snapshot.twist[:2] / VELOCITY_SCALE,
                snapshot.wrench[:2] / SEEN_FORCE,
                snapshot.wrench[5:6] / SEEN_MOMENT,
                last_action,
                np.log(stiffness / SOFTEST),
                [snapshot.tank / TANK_SCALE, float(snapshot.gate_low < 1.0)],
                [2.0 * (self.horizon - t) / self.horizon - 1.0],
            ]
        ).astype(np.float32)

    def request(
        self, snapshot: Snapshot, action: np.ndarray, seq: int, authority: int = Authority.POLICY
    ) -> Request:
        """Return the request of an action: a step across the board, and a stiffness for it."""
        action = np.clip(action, -1.0, 1.0).astype(np.float64)
        step = self.value("action_scale") * action[:2]
        position = np.array([*(snapshot.target_position[:2] + step), TOOL_HEIGHT])
        x, y = map(float, stiffness_of(action[2:])) if action.size > 2 else (0.0, 0.0)
        return Request(
            seq, int(authority), position, DOWN.copy(), snapshot.gripper_target, (x, y, 0.0, 0.0)
        )

    def executed_action(self, before: Snapshot, after: Snapshot, action: np.ndarray) -> np.ndarray:
        """Return the action that the host really carried out (A,) float32."""
        moved = (after.target_position - before.target_position)[:2] / self.value("action_scale")
        stiffness = action_of(after.stiffness[:2])[: action.size - 2]
        return np.clip(np.concatenate([moved, stiffness]), -1.0, 1.0).astype(np.float32)

    def reward(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return minus the distance to the goal, in sides of the board, and a bonus there."""
        distance = float(np.linalg.norm((goal_estimate[:3] - snapshot.position)[:2]))
        return -distance / REACH + BONUS * self.success(snapshot.privileged_state)

    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action along the corridor: stiff the way it goes, soft across."""
        goal = (goal_estimate[:3] - BOARD)[:2]
        tool = (snapshot.position - BOARD)[:2]
        aim = point_ahead(self.maze, tool, goal, AHEAD)
        step = (aim - (snapshot.target_position - BOARD)[:2]) / self.value("action_scale")
        step /= max(1.0, float(np.linalg.norm(step)))
        if self.action_size == 2:
            return step
        # of the tool, not of the step: a soft spring that joint friction holds must stiffen
        heading = np.abs(aim - tool) / max(float(np.linalg.norm(aim - tool)), 1e-6)
        return np.concatenate([step, ACROSS + (1.0 - ACROSS) * heading])

    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the way to go along the corridors [m]."""
        return max(
            self.privileged_value(snapshot, "to_go"), self.privileged_value(snapshot, "distance")
        )

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Straight at the goal, the same with wiggling, and random: none knows the maze."""
        straight = lambda s, n, t: self._full(toward(s, n))  # noqa: E731
        return {
            "straight": lambda rng: FunctionPolicy(straight),
            "push_wiggle": lambda rng: FunctionPolicy(
                lambda s, n, t: self._full(wiggle(s, n, t, rng))
            ),
        } | super().baselines

    def _full(self, step: np.ndarray) -> np.ndarray:
        return np.concatenate([step, np.ones(self.action_size - 2)])


def over(cell: Cell) -> np.ndarray:
    """Return where the tool is over the middle of a cell, base frame (3,) [m]."""
    return BOARD + np.append(middle(cell), 0.0)


def stiffness_of(action: np.ndarray) -> np.ndarray:
    """Return the stiffness (2,) [N/m] of an action in [-1, 1], even steps of its logarithm."""
    return SOFTEST * (STIFFEST / SOFTEST) ** (0.5 * (action + 1.0))


def action_of(stiffness: np.ndarray) -> np.ndarray:
    """Return the action (2,) that asks for a stiffness [N/m]; beyond ±1 outside of the range."""
    ratio = np.log(np.maximum(stiffness, 1e-6) / SOFTEST) / np.log(STIFFEST / SOFTEST)
    return 2.0 * ratio - 1.0


def toward(snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
    """Return the step (2,) straight at the goal, at full speed until near it."""
    gap = (goal_estimate[:3] - snapshot.position)[:2]
    return gap / max(float(np.linalg.norm(gap)), 0.010)


def wiggle(
    snapshot: Snapshot, goal_estimate: np.ndarray, t: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the step (2,) at the goal, every other second in a random direction instead."""
    if t % 20 < 10:
        return toward(snapshot, goal_estimate)
    return rng.uniform(-1.0, 1.0, 2)
