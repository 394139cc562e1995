"""Pieces of MJCF that tasks share: materials, a square hole, a peg, and where they really are."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_env.arms.panda_mjcf import CAMERAS as _CAMERAS

ASSETS = """
<material name="part_steel" rgba="0.70 0.73 0.77 1" specular="0.7" shininess="0.6"/>
<material name="part_brass" rgba="0.93 0.68 0.25 1" specular="0.6" shininess="0.5"/>
<material name="part_block" rgba="0.16 0.30 0.47 1" specular="0.3" shininess="0.4"/>
<material name="part_plate" rgba="0.11 0.13 0.16 1" specular="0.3" shininess="0.3"/>
<material name="part_cube" rgba="0.90 0.36 0.22 1" specular="0.3" shininess="0.4"/>
<material name="part_stand" rgba="0.34 0.45 0.40 1" specular="0.2" shininess="0.3"/>
<material name="part_floor" rgba="0.82 0.84 0.87 1" specular="0.2" shininess="0.3"/>
<material name="part_goal_mark" rgba="0.20 0.75 0.55 1" specular="0.2" shininess="0.3"/>
<material name="part_goal" rgba="0.20 0.75 0.55 0.45" specular="0.1" shininess="0.1"/>
"""


CAMERAS = (
    _CAMERAS + '<camera name="film" pos="1.22 -0.82 0.66" mode="targetbody" target="film_target" '
    'fovy="36"/><body name="film_target" pos="0.40 0 0.20"/>'
)


def contact(friction: float) -> str:
    """Return contact attributes of stiff parts with a Coulomb friction [-]."""
    return (
        f'friction="{friction} 0.002 0.0001" solref="0.004 1" solimp="0.95 0.99 0.0005" condim="4"'
    )


def holder(
    name: str, opening: float, wall: float, height: float, friction: float, material: str
) -> str:
    """Return a body with a square hole from top to bottom, on the table at the origin.

    Args:
        name: Name of the body; the site `<name>_rim` is the middle of the hole at the top.
        opening: Side of the hole [m].
        wall: Thickness of the walls [m].
        height: Depth of the hole [m]; the table is its bottom.
        friction: Coulomb friction [-].
        material: Name of the material.
    """
    half, mid = opening / 2.0, (opening + wall) / 2.0
    outer = half + wall
    attributes = f'class="task" type="box" material="{material}" {contact(friction)}'
    walls = [
        (mid, 0.0, wall / 2.0, outer),
        (-mid, 0.0, wall / 2.0, outer),
        (0.0, mid, half, wall / 2.0),
        (0.0, -mid, half, wall / 2.0),
    ]
    geoms = "".join(
        f'<geom name="{name}_wall{i}" pos="{x:.6f} {y:.6f} {height / 2:.6f}" '
        f'size="{sx:.6f} {sy:.6f} {height / 2:.6f}" {attributes}/>'
        for i, (x, y, sx, sy) in enumerate(walls)
    )
    base = outer + 0.012
    return (
        f'<body name="{name}">{geoms}'
        f'<geom type="box" pos="0 0 0.002" size="{base:.6f} {base:.6f} 0.002" '
        f'class="visual" material="part_plate"/>'
        f'<site name="{name}_rim" pos="0 0 {height:.6f}" size="0.001" rgba="0 0 0 0"/></body>'
    )


def up(height: float) -> np.ndarray:
    """Return a vector straight up (3,) [m]."""
    return np.array([0.0, 0.0, height])


def place(robot: Any, body: str, position: np.ndarray) -> None:
    """Move a fixed body; call before the robot's reset, which computes where everything is.

    Args:
        robot: Simulated robot.
        body: Name of a body that is a child of the world and has no joint.
        position: Of its frame, base frame (3,) [m].
    """
    robot.model.body(body).pos[:] = position


def place_free(robot: Any, joint: str, position: np.ndarray, yaw: float = 0.0) -> None:
    """Set where a free body starts; call before the robot's reset, which puts it there.

    Args:
        robot: Simulated robot.
        joint: Name of the body's free joint.
        position: Of its frame, base frame (3,) [m].
        yaw: Rotation about the vertical [rad].
    """
    address = int(robot.model.joint(joint).qposadr[0])
    robot.model.qpos0[address : address + 3] = position
    robot.model.qpos0[address + 3 : address + 7] = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]


def tilt(rotation: np.ndarray) -> float:
    """Return the angle between a frame's z axis and the vertical, up or down alike [rad].

    Args:
        rotation: Row-major rotation matrix (9,).
    """
    return float(np.arccos(min(1.0, abs(rotation[8]))))


class ObjectPoseSensor:
    """Sees a place with noise: a bias for the episode and a jitter for each reading."""

    def __init__(self, rng: np.random.Generator, noise: float) -> None:
        """Draw the episode's bias.

        Args:
            rng: Source of the noise; it goes on with a generator of its own.
            noise: Standard deviation of bias and jitter together [m].
        """
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._jitter = 0.5 * noise
        self._bias = self._rng.normal(0.0, np.sqrt(0.75) * noise, 3)

    def read(self, position: np.ndarray) -> np.ndarray:
        """Return the position as seen (3,) [m]."""
        return position + self._bias + self._rng.normal(0.0, self._jitter, 3)
