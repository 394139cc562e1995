"""Kinematics of the Panda-class arm: tool pose and Jacobian from joint angles.

The controller uses its own kinematics from the measured joints, never the simulator's, so that the
same code drives the real arm.

Source:
    Franka Robotics, "Robot and interface specifications": Denavit-Hartenberg parameters (Craig's
    convention) and joint limits of the Panda (FER).
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.rotation import between, from_axes

# joint i: a_{i-1} [m], sin and cos of alpha_{i-1} [-], d_i [m]
LINKS = np.array(
    [
        [0.0, 0.0, 1.0, 0.333],
        [0.0, -1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.316],
        [0.0825, 1.0, 0.0, 0.0],
        [-0.0825, -1.0, 0.0, 0.384],
        [0.0, 1.0, 0.0, 0.0],
        [0.088, 1.0, 0.0, 0.0],
    ]
)
FLANGE = 0.107  # [m], from joint 7's frame along its z axis
HAND_ANGLE = -math.pi / 4  # [rad], the hand on the flange, about z
TOOL = (0.0, 0.0, 0.1034)  # [m], tool centre between the finger tips, hand frame

Q_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])  # [rad]
Q_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])  # [rad]
DQ_MAX = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])  # [rad/s]
TORQUE_MAX = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # [N m]
READY = np.array([0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4])  # [rad]


@kernel
def forward(q: np.ndarray, tool: np.ndarray, pose: np.ndarray, jacobian: np.ndarray) -> None:
    """Write the pose of the tool and its geometric Jacobian.

    Args:
        q: Joint angles, shape (7,), [rad].
        tool: Tool centre in the hand's frame, shape (3,), [m].
        pose: Out, shape (7,): position in the base frame [m], quaternion xyzw.
        jacobian: Out, shape (6, 7): twist of the tool centre in the base frame over joint
            velocities [m/rad, rad/rad].
    """
    # the frame's axes, as columns of the rotation matrix, and its origin
    xx, xy, xz, yx, yy, yz, zx, zy, zz = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
    px, py, pz = 0.0, 0.0, 0.0
    origin = np.empty((7, 3))
    for i in range(7):
        a, sa, ca, d = LINKS[i, 0], LINKS[i, 1], LINKS[i, 2], LINKS[i, 3]
        px, py, pz = px + a * xx, py + a * xy, pz + a * xz
        # turn about x by alpha
        yx, yy, yz, zx, zy, zz = (
            ca * yx + sa * zx,
            ca * yy + sa * zy,
            ca * yz + sa * zz,
            ca * zx - sa * yx,
            ca * zy - sa * yy,
            ca * zz - sa * yz,
        )
        px, py, pz = px + d * zx, py + d * zy, pz + d * zz
        s, c = math.sin(q[i]), math.cos(q[i])
        # turn about z by the joint angle
        xx, xy, xz, yx, yy, yz = (
            c * xx + s * yx,
            c * xy + s * yy,
            c * xz + s * yz,
            c * yx - s * xx,
            c * yy - s * xy,
            c * yz - s * xz,
        )
        origin[i, 0], origin[i, 1], origin[i, 2] = px, py, pz
        jacobian[3, i], jacobian[4, i], jacobian[5, i] = zx, zy, zz
    s, c = math.sin(HAND_ANGLE), math.cos(HAND_ANGLE)
    xx, xy, xz, yx, yy, yz = (
        c * xx + s * yx,
        c * xy + s * yy,
        c * xz + s * yz,
        c * yx - s * xx,
        c * yy - s * xy,
        c * yz - s * xz,
    )
    reach = FLANGE + tool[2]
    px += tool[0] * xx + tool[1] * yx + reach * zx
    py += tool[0] * xy + tool[1] * yy + reach * zy
    pz += tool[0] * xz + tool[1] * yz + reach * zz
    pose[0], pose[1], pose[2] = px, py, pz
    pose[3], pose[4], pose[5], pose[6] = from_axes((xx, xy, xz), (yx, yy, yz), (zx, zy, zz))
    for i in range(7):
        rx, ry, rz = px - origin[i, 0], py - origin[i, 1], pz - origin[i, 2]
        ax, ay, az = jacobian[3, i], jacobian[4, i], jacobian[5, i]
        jacobian[0, i] = ay * rz - az * ry
        jacobian[1, i] = az * rx - ax * rz
        jacobian[2, i] = ax * ry - ay * rx


def pose_of(q: np.ndarray, tool: tuple[float, float, float] = TOOL) -> np.ndarray:
    """Return the tool's pose, shape (7,): position [m] and quaternion xyzw, base frame."""
    pose, jacobian = np.empty(7), np.empty((6, 7))
    forward(np.asarray(q, np.float64), np.asarray(tool, np.float64), pose, jacobian)
    return pose


@kernel
def inverse(
    q: np.ndarray,
    tool: np.ndarray,
    goal: np.ndarray,
    rest: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> float:
    """Move joint angles until the tool is at the goal; return what error is left.

    Damped least squares with a pull toward `rest` in the null space, kept 0.05 rad off the limits.

    Args:
        q: Joint angles, shape (7,), changed in place [rad].
        tool: Tool centre in the hand's frame, shape (3,) [m].
        goal: Pose, shape (7,): position [m], quaternion xyzw.
        rest: Preferred joint angles, shape (7,) [rad].
        low: Least joint angles of the arm, shape (7,) [rad].
        high: Largest ones, shape (7,) [rad].

    Returns:
        Norm of the position error [m] plus norm of the rotation error [rad].

    Source:
        C. W. Wampler, "Manipulator Inverse Kinematic Solutions Based on Vector Formulations and
        Damped Least-Squares Methods", 1986.
    """
    pose, jacobian, error = np.empty(7), np.empty((6, 7)), np.empty(6)
    left = np.inf
    for turn_number in range(200):
        forward(q, tool, pose, jacobian)
        for i in range(3):
            error[i] = goal[i] - pose[i]
        here, aim = (pose[3], pose[4], pose[5], pose[6]), (goal[3], goal[4], goal[5], goal[6])
        error[3], error[4], error[5] = between(here, aim)
        left = math.sqrt(error[0] ** 2 + error[1] ** 2 + error[2] ** 2)
        left += math.sqrt(error[3] ** 2 + error[4] ** 2 + error[5] ** 2)
        if left < 1e-9:
            break
        pull = 0.1 * (rest - q) if turn_number < 100 else np.zeros(7)
        gram = jacobian @ jacobian.T
        for i in range(6):
            gram[i, i] += 1e-6
        change = pull + jacobian.T @ np.linalg.solve(gram, error - jacobian @ pull)
        largest = np.abs(change).max()
        if largest > 0.3:
            change *= 0.3 / largest
        for i in range(7):
            q[i] = min(max(q[i] + change[i], low[i] + 0.05), high[i] - 0.05)
    return left
