"""What the joints of one model of arm may do, as the chain's parameters hold it.

Source:
    Franka Robotics, "Robot and interface specifications": limits of Panda (FER) and FR3, and the
    FR3's speed limit, which falls towards the ends of its joints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW


class JointLimits(NamedTuple):
    """Ranges and speeds of seven joints.

    Towards an end that is `left` [rad] away, a joint moves no faster than
    `sqrt(2 slowing left) - offset`, and never faster than `speed`.
    """

    low: np.ndarray  # (7,) [rad]
    high: np.ndarray  # (7,) [rad]
    speed: np.ndarray  # (7,) [rad/s]
    slowing: np.ndarray  # (7,) [rad/s^2]; 0 where the speed limit is the same everywhere
    offset: np.ndarray  # (7,) [rad/s]
    repulsion: float  # [N m/rad], least stiffness of the spring near a joint's end


PANDA = JointLimits(Q_LOW, Q_HIGH, DQ_MAX, np.zeros(7), np.zeros(7), 0.0)
FR3 = JointLimits(
    np.array([-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508]),
    np.array([2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508]),
    np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
    np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0]),
    np.array([0.6599, 0.2517, 0.2, 0.3533, 0.5757, 0.4878, 0.4628]),
    120.0,  # 12 N m at the end, what a wrist joint has: the tool's spring doesn't push harder
)
