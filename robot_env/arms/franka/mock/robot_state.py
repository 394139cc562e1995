"""The mocked robot's state and its own dynamics: fields and flat lists as in the library."""

from __future__ import annotations

import numpy as np

from controllers.kinematics import forward
from robot_env.arms.franka.dynamics_model import HAND_IN_FLANGE, Payload, combine, flange_pose
from robot_env.arms.franka.mock.values import Duration, Errors, RobotMode, flat, frame_of
from robot_env.arms.franka.mock.world import World


class RobotState:
    """What the robot says of one cycle; matrices are flat and column-major."""

    def __init__(self, world: World, ee_in_nominal: np.ndarray, load: Payload) -> None:
        hand = world.hand_in_flange
        q = world.q
        self.q = q.tolist()
        self.dq = world.dq.tolist()
        self.q_d, self.dq_d = list(self.q), [0.0] * 7
        self.tau_J_d = world.torque.tolist()
        self.tau_J = list(self.tau_J_d)
        # what the robot does to the environment, as on the real one
        self.O_F_ext_hat_K = (-world.wrench).tolist()
        self.F_T_NE = flat(hand)
        self.NE_T_EE = flat(ee_in_nominal)
        tool = hand @ ee_in_nominal
        self.F_T_EE = flat(tool)
        self.O_T_EE = flat(flange_pose(q) @ tool)
        self.EE_T_K = flat(np.eye(4))
        total = combine(world.hand, load)
        self.m_ee, self.F_x_Cee = world.hand.mass, world.hand.centre.tolist()
        self.m_load, self.F_x_Cload = load.mass, load.centre.tolist()
        self.m_total, self.F_x_Ctotal = total.mass, total.centre.tolist()
        self.I_ee = world.hand.inertia.ravel(order="F").tolist()
        self.I_load = load.inertia.ravel(order="F").tolist()
        self.I_total = total.inertia.ravel(order="F").tolist()
        self.robot_mode = RobotMode[world.mode]
        self.current_errors = Errors(world.errors)
        self.last_motion_errors = Errors(world.last_errors)
        self.control_command_success_rate = world.success_rate
        self.time = Duration(world.ticks)


class Model:
    """The robot's own dynamics."""

    def __init__(self, world: World) -> None:
        self._world = world

    def mass(self, state: RobotState) -> list[float]:
        """Return the mass matrix, 49 values column-major [kg m^2]."""
        return self._world.inertia.mass(np.array(state.q), _total(state)).ravel(order="F").tolist()

    def gravity(self, state: RobotState) -> list[float]:
        """Return the torques against gravity, 7 values [N m]."""
        return self._world.inertia.gravity(np.array(state.q), _total(state)).tolist()

    def coriolis(self, state: RobotState) -> list[float]:
        """Return zeros: nothing here moves fast enough to tell."""
        return [0.0] * 7

    def zero_jacobian(self, state: RobotState) -> list[float]:
        """Return the end effector's Jacobian in the base frame, 42 values column-major."""
        pose, jacobian = np.empty(7), np.empty((6, 7))
        tool = frame_of(state.F_T_EE)
        forward(np.array(state.q), HAND_IN_FLANGE[:3, :3].T @ tool[:3, 3], pose, jacobian)
        return jacobian.ravel(order="F").tolist()


def _total(state: RobotState) -> Payload:
    return Payload(
        state.m_total, np.array(state.F_x_Ctotal), np.array(state.I_total).reshape(3, 3, order="F")
    )
