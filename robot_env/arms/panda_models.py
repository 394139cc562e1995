"""What differs between the arms of the Panda class: joint limits and inertias.

Both have the same kinematics (`controllers.kinematics`). The Panda is also called FER.

Sources:
    C. Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot With Retrieval of
    Feasible Parameters Using Penalty-Based Optimization", RA-L 2019: inertias of the Panda.
    Franka Robotics, franka_description: inertias of the FR3.
"""

from __future__ import annotations

from typing import NamedTuple

from controllers import joint_limits
from controllers.joint_limits import JointLimits


class Arm(NamedTuple):
    """Numbers of one model of arm."""

    name: str
    joints: JointLimits
    # of each link: mass [kg], centre of mass in its frame [m], inertia xx yy zz xy xz yz about that
    # [kg m^2]
    links: tuple[tuple[float, str, str], ...]


PANDA = Arm(
    "panda",
    joint_limits.PANDA,
    (
        (
            4.970684,
            "0.003875 0.002081 -0.04762",
            "0.70337 0.70661 0.009117 -0.000139 0.006772 0.019169",
        ),
        (
            0.646926,
            "-0.003141 -0.02872 0.003495",
            "0.007962 0.02811 0.025995 -0.003925 0.010254 0.000704",
        ),
        (
            3.228604,
            "0.027518 0.039252 -0.066502",
            "0.037242 0.036155 0.01083 -0.004761 -0.011396 -0.012805",
        ),
        (
            3.587895,
            "-0.05317 0.104419 0.027454",
            "0.025853 0.019552 0.028323 0.007796 -0.001332 0.008641",
        ),
        (
            1.225946,
            "-0.011953 0.041065 -0.038437",
            "0.035549 0.029474 0.008627 -0.002117 -0.004037 0.000229",
        ),
        (
            1.666555,
            "0.060149 -0.014117 -0.010517",
            "0.001964 0.004354 0.005433 0.000109 -0.001158 0.000341",
        ),
        (
            0.735522,
            "0.010517 -0.004252 0.061597",
            "0.012516 0.010027 0.004815 -0.000428 -0.001196 -0.000741",
        ),
    ),
)

FR3 = Arm(
    "fr3",
    joint_limits.FR3,
    (
        (
            2.927465,
            "0.0000004 -0.0181251 -0.0386036",
            "0.023927 0.022482 0.006350 0.0000133 -0.000114 -0.001995",
        ),
        (
            2.935537,
            "0.0031829 -0.0743222 0.0088146",
            "0.041939 0.025145 0.061702 0.000203 0.004078 -0.004225",
        ),
        (
            2.244901,
            "0.0407016 -0.0048201 -0.0289731",
            "0.024101 0.019741 0.019044 0.002405 -0.002856 -0.002104",
        ),
        (
            2.615596,
            "-0.0459101 0.0630493 -0.0085188",
            "0.034530 0.028882 0.041255 0.013226 0.010151 -0.000976",
        ),
        (
            2.327121,
            "-0.0016040 0.0292536 -0.0972966",
            "0.051610 0.047877 0.016424 -0.005715 -0.003567 0.010674",
        ),
        (
            1.817038,
            "0.0597131 -0.0410295 -0.0101693",
            "0.005412 0.014058 0.016081 0.006193 0.001422 -0.001314",
        ),
        (
            0.627143,
            "0.0045226 0.0086262 -0.0161633",
            "0.000211 0.000177 0.0000599 -0.0000243 0.0000456 0.0000874",
        ),
    ),
)

ARMS = {arm.name: arm for arm in (PANDA, FR3)}
