"""The maze's board and peg as MJCF, and how stiff its walls are.

The contact is MuJoCo's soft one with a constant impedance d, for which the force at rest is linear
in the depth: F = k depth d / ((1 - d) A), where k is the stiffness in `solref` and A the inverse
weight that MuJoCo gives the peg's body. A is measured here, not computed, and the stiffness that
comes out is measured by `python -m robot_env.tasks.scenes.wall_stiffness`.
"""

from __future__ import annotations

import math

from controllers.kinematics import TOOL
from robot_env.tasks.scenes.maze_layout import CELLS, PITCH, WALL, Corridors, middle, walls

ORIGIN = (0.35, -0.15)  # base frame [m], the board's corner
FLOOR = 0.050  # base frame [m], where the corridors' floor is
HEIGHT = 0.030  # [m], of the walls over the floor
TIP = 0.020  # [m], of the peg's tip over the floor: 10 mm under the tops of the walls
RADIUS = 0.008  # [m], of the peg
LENGTH = 0.045  # [m], from the tool centre to the peg's tip
IMPEDANCE = 0.9  # [-], d: the share of a contact's motion that is the constraint's
INVERSE_WEIGHT = 0.1802  # [1/kg], A: what MuJoCo gives the body `peg` in its reference pose
CONTACTS = 2  # [-], ends of the peg's line on a wall, each with a spring of its own
DAMPING = 0.5  # [-], ratio of the contact


def contact(friction: float, stiffness: float) -> str:
    """Return contact attributes of a wall and of the peg that meets it.

    Args:
        friction: Coulomb friction [-].
        stiffness: Of the contact [N/m].
    """
    k = stiffness / CONTACTS * INVERSE_WEIGHT * (1.0 - IMPEDANCE) / IMPEDANCE
    b = 2.0 * DAMPING * math.sqrt(k)
    # MuJoCo divides by d and its square
    solref = f"{-k * IMPEDANCE**2:.6g} {-b * IMPEDANCE:.6g}"
    return (
        f'friction="{friction} 0.002 0.0001" solref="{solref}" '
        f'solimp="{IMPEDANCE} {IMPEDANCE} 0.001" condim="4"'
    )


def board(maze: Corridors, friction: float, stiffness: float) -> str:
    """Return the MJCF of the board with its walls, and of the marks of start and goal.

    Args:
        maze: Where corridors are.
        friction: Of walls and peg [-].
        stiffness: Of the contact with a wall [N/m].
    """
    half = CELLS * PITCH / 2.0
    x, y = ORIGIN[0] + half, ORIGIN[1] + half
    rim = half + WALL / 2.0
    start = middle(maze.start)
    geoms = [
        f'<geom name="wall{i}" class="task" type="box" material="part_block" '
        f'pos="{ORIGIN[0] + (a + c) / 2:.6f} {ORIGIN[1] + (b + d) / 2:.6f} '
        f'{FLOOR + HEIGHT / 2:.6f}" size="{(c - a) / 2:.6f} {(d - b) / 2:.6f} {HEIGHT / 2:.6f}" '
        f"{contact(friction, stiffness)}/>"
        for i, (a, b, c, d) in enumerate(walls(maze))
    ]
    return (
        f'<body name="maze">{"".join(geoms)}'
        f'<geom name="board" class="task" type="box" pos="{x} {y} {FLOOR / 2 + 0.004:.6f}" '
        f'size="{rim:.6f} {rim:.6f} {FLOOR / 2 - 0.004:.6f}" material="part_plate"/>'
        f'<geom class="visual" type="box" pos="{x} {y} 0.004" '
        f'size="{rim + 0.012:.6f} {rim + 0.012:.6f} 0.004" material="part_steel"/>'
        f'<geom class="visual" type="box" pos="{x} {y} {FLOOR}" '
        f'size="{rim:.6f} {rim:.6f} 0.0004" material="part_floor"/>'
        f'<geom class="visual" type="cylinder" size="0.012 0.0006" material="part_plate" '
        f'pos="{ORIGIN[0] + start[0]:.6f} {ORIGIN[1] + start[1]:.6f} {FLOOR + 0.0005}"/></body>'
        f'<body name="goal"><geom class="visual" type="cylinder" size="0.015 0.001" '
        f'pos="0 0 0.001" material="part_goal_mark"/></body>'
    )


def peg(friction: float, stiffness: float) -> str:
    """Return the MJCF of the peg in the hand.

    It meets walls as a capsule whose straight part ends at the tip: the band that touches is the
    cylinder's, and two shapes that MuJoCo intersects exactly are quicker than a cylinder's hull.

    Args:
        friction: Of walls and peg [-].
        stiffness: Of the contact with a wall [N/m].
    """
    grip = 0.012
    middle_z, half = (LENGTH - grip) / 2.0, (LENGTH + grip) / 2.0
    return (
        f'<body name="peg" pos="0 0 {TOOL[2]}" gravcomp="1">'
        f'<geom class="visual" type="cylinder" pos="0 0 {middle_z}" size="{RADIUS} {half}" '
        f'material="part_brass"/>'
        f'<geom name="peg" class="task" type="capsule" fromto="0 0 0 0 0 {LENGTH}" '
        f'size="{RADIUS}" mass="0.06" group="3" {contact(friction, stiffness)}/>'
        f'<site name="peg_tip" pos="0 0 {LENGTH}" size="0.001" rgba="0 0 0 0"/></body>'
    )
