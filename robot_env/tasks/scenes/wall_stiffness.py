"""How stiff the maze's walls really are: press the peg on them, slowly, and divide.

`python -m robot_env.tasks.scenes.wall_stiffness` prints what comes out for each pressed wall.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import dataclasses
import json
import sys

import mujoco
import numpy as np

from controllers.config import ControlConfig
from controllers.robot import Authority, Request
from handrail.errors import Error
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot
from robot_env.tasks import make
from robot_env.tasks.base import DOWN, HOME
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.maze import over
from robot_env.tasks.scenes.maze_board import RADIUS
from robot_env.tasks.scenes.maze_layout import Cell

PLACES: dict[str, tuple[Cell, tuple[float, float]]] = {  # of layout 1: cell, direction of the press
    "near, toward the arm": ((0, 2), (-1.0, 0.0)),
    "near, to the right": ((0, 0), (0.0, -1.0)),
    "middle, away from the arm": ((2, 3), (1.0, 0.0)),
    "far, to the left": ((5, 5), (0.0, 1.0)),
    "far, away from the arm": ((5, 3), (1.0, 0.0)),
}
PRESSES = (0.004, 0.010)  # [m], of the spring's end into the wall: two points of the line
WAIT = 1500  # [ticks], until each press is at rest


def press(robot: MujocoRobot, cell: Cell, direction: tuple[float, float]) -> tuple[float, float]:
    """Return force per depth [N/m] of a wall, and the larger force of the two presses [N].

    Args:
        robot: Runs the scene of layout 1.
        cell: In its middle the press begins.
        direction: Unit vector along an axis of the base frame, toward a wall (2,).

    Raises:
        Error: No wall was met.
    """
    across = np.array([*direction, 0.0])
    start = over(cell)
    robot.reset(robot.inverse_kinematics(start, DOWN, HOME), 2.0 * RADIUS, np.random.default_rng(0))
    met, seq, target = [], 0, start
    for depth in PRESSES:
        for share in np.linspace(0.1, 1.0, 10):  # the wall is 12 mm away from the peg in the middle
            seq += 1
            target = start + (0.012 + depth) * share * across
            robot.run(Request(seq, int(Authority.SCRIPT), target, DOWN, 0.0), 100)
        for _ in range(WAIT // 100):
            seq += 1
            robot.run(Request(seq, int(Authority.SCRIPT), target, DOWN, 0.0), 100)
        met.append(_contact(robot))
    (force1, depth1), (force2, depth2) = met
    if not depth2 > depth1 > 0.0:
        raise Error(
            f"pressing from cell {cell} toward {direction} met no wall: depths {depth1:g} and "
            f"{depth2:g} m; start in a cell that has a wall there"
        )
    return (force2 - force1) / (depth2 - depth1), force2


def measure(stiffness: float) -> dict[str, float]:
    """Return the measured stiffness [N/m] of walls that were asked to be that stiff [N/m]."""
    task = make("maze", TaskConfig("maze", layout=1, wall_stiffness=stiffness))
    still = dataclasses.replace(MujocoConfig(), force_noise=0.0, torque_noise=0.0)
    robot = MujocoRobot(task.scene(), still, ControlConfig(), task.spec.control_hz)
    return {name: press(robot, *place)[0] for name, place in PLACES.items()}


def _contact(robot: MujocoRobot) -> tuple[float, float]:
    # normal force on the peg [N] and how deep it is in the wall [m], from the simulation itself
    peg, force, depth = robot.model.geom("peg").id, 0.0, 0.0
    six = np.zeros(6)
    for i in range(robot.data.ncon):
        contact = robot.data.contact[i]
        if peg in contact.geom:
            mujoco.mj_contactForce(robot.model, robot.data, i, six)
            force += float(six[0])
            depth = max(depth, -float(contact.dist))
    return force, depth


def main() -> int:
    """Print what was asked for and what was measured, as JSON; return the exit code."""
    for asked in (1e4, 2e4, 1e5):
        print(json.dumps({"asked": asked, "measured": measure(asked)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
