"""Our own model of the arm's flange and dynamics, to hold the robot's against."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np

from controllers.kinematics import FLANGE, HAND_ANGLE, pose_of
from robot_env.arms.panda_mjcf import bare_arm
from robot_env.arms.panda_models import Arm

HAND_IN_FLANGE = np.eye(4)  # orientation of the hand's frame, whose origin is the flange's
HAND_IN_FLANGE[:2, :2] = [
    [math.cos(HAND_ANGLE), -math.sin(HAND_ANGLE)],
    [math.sin(HAND_ANGLE), math.cos(HAND_ANGLE)],
]


class Payload(NamedTuple):
    """What is fixed to the flange."""

    mass: float  # [kg]
    centre: np.ndarray  # (3,) centre of mass, flange frame [m]
    inertia: np.ndarray  # (3, 3) about the centre of mass, flange frame [kg m^2]


def combine(*parts: Payload) -> Payload:
    """Return several payloads as one; without mass it is at the flange."""
    mass = sum(part.mass for part in parts)
    if mass <= 0.0:
        return Payload(0.0, np.zeros(3), np.zeros((3, 3)))
    centre = sum((part.mass * part.centre for part in parts), np.zeros(3)) / mass
    inertia = np.zeros((3, 3))
    for part in parts:
        arm = part.centre - centre
        inertia += part.inertia + part.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    return Payload(mass, centre, inertia)


def flange_pose(q: np.ndarray) -> np.ndarray:
    """Return the flange's pose in the base frame, 4 x 4.

    Args:
        q: Joint angles, shape (7,) [rad].
    """
    pose, hand = pose_of(q, (0.0, 0.0, 0.0)), np.empty(9)
    mujoco.mju_quat2Mat(hand, pose[[6, 3, 4, 5]])
    frame = np.eye(4)
    frame[:3, :3] = hand.reshape(3, 3) @ HAND_IN_FLANGE[:3, :3].T
    frame[:3, 3] = pose[:3]
    return frame


class ArmDynamics:
    """Mass matrix and gravity of an arm with something at its flange."""

    def __init__(self, arm: Arm) -> None:
        """Compile the arm without anything at its flange."""
        body = (
            f'<body name="payload" pos="0 0 {FLANGE}"><inertial mass="1e-6" pos="0 0 0" '
            'diaginertia="1e-9 1e-9 1e-9"/></body>'
        )
        self._model = mujoco.MjModel.from_xml_string(bare_arm(arm, body))
        self._model.dof_armature[:] = 0.0
        self._model.body_gravcomp[:] = 0.0
        self._data = mujoco.MjData(self._model)
        self._payload = self._model.body("payload").id

    def mass(self, q: np.ndarray, payload: Payload) -> np.ndarray:
        """Return the joint-space inertia, shape (7, 7) [kg m^2].

        Args:
            q: Joint angles, shape (7,) [rad].
            payload: Everything at the flange.
        """
        self._set(q, payload)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_crb(self._model, self._data)
        full = np.empty((7, 7))
        for i, unit in enumerate(np.eye(7)):
            mujoco.mj_mulM(self._model, self._data, full[i], unit)
        return full

    def gravity(self, q: np.ndarray, payload: Payload) -> np.ndarray:
        """Return the torques that hold the arm against its weight, shape (7,) [N m]."""
        self._set(q, payload)
        self._data.qvel[:] = 0.0
        mujoco.mj_forward(self._model, self._data)
        return self._data.qfrc_bias.copy()

    def _set(self, q: np.ndarray, payload: Payload) -> None:
        model, at = self._model, self._payload
        model.body_mass[at] = max(payload.mass, 1e-9)
        model.body_ipos[at] = payload.centre
        # principal moments and axes of the inertia
        moments, axes = np.linalg.eigh(payload.inertia)
        if np.linalg.det(axes) < 0.0:
            axes[:, 0] *= -1.0
        model.body_inertia[at] = np.maximum(moments, 1e-9)
        mujoco.mju_mat2Quat(model.body_iquat[at], axes.ravel())
        self._data.qpos[:] = q
