"""Settings of a Franka arm: table [franka]."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from controllers.config import ControlConfig
from handrail.config import check

Triple = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class FrankaConfig:
    """Which robot, what it carries, when it stops by itself, and what is refused at the start."""

    address: str = "172.16.0.2"  # of the control box
    model: Literal["fr3", "panda"] = "fr3"
    realtime: bool = True  # insist on a PREEMPT_RT kernel
    tool: Triple = (0.0, 0.0, 0.1034)  # [m], tool centre in the hand's frame
    delay: int = 0  # [ticks], from the echoed torque to the torque at the joints
    # load beyond what Desk knows of the hand
    load_mass: float = 0.0  # [kg]
    load_centre: Triple = (0.0, 0.0, 0.0)  # [m], centre of mass, flange frame
    load_inertia: Six = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # [kg m^2], xx yy zz xy xz yz about it
    # contact sets a flag, collision stops the robot
    contact_torque: float = 20.0  # [N m], each joint
    collision_torque: float = 60.0  # [N m], each joint
    contact_force: float = 25.0  # [N], each axis
    collision_force: float = 60.0  # [N], each axis
    contact_moment: float = 10.0  # [N m], each axis
    collision_moment: float = 30.0  # [N m], each axis
    # what is refused before anything moves
    position_tolerance: float = 1e-3  # [m], our kinematics against the robot's
    rotation_tolerance: float = 2e-3  # [rad], likewise
    mass_tolerance: float = 0.03  # [kg m^2], each entry of the mass matrix, ours against its own
    rest_force: float = 5.0  # [N], on the tool at rest
    rest_moment: float = 2.0  # [N m], likewise
    rest_time: float = 0.2  # [s], over which that is averaged
    # resets are motions of the same controller
    reset_speed: float = 0.10  # [m/s]
    reset_lift: float = 0.05  # [m], upward before going across
    # hand
    gripper: bool = False  # there is a Franka Hand
    grip_force: float = 20.0  # [N], at most
    grip_speed: float = 0.10  # [m/s]

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            values = value if isinstance(value, tuple) else (value,)
            for v in values:
                if isinstance(v, float):
                    check(math.isfinite(v), item.name, value, "finite")
        check(bool(self.address), "address", self.address, "a host name or an IP address")
        check(0 <= self.delay <= 4, "delay", self.delay, "0 to 4 ticks")
        check(0.0 <= self.load_mass <= 5.0, "load_mass", self.load_mass, "0 to 5 kg")
        if self.load_mass == 0.0:
            for name in ("load_centre", "load_inertia"):
                value = getattr(self, name)
                check(not any(value), name, value, "zeros while load_mass is 0")
        for what in ("torque", "force", "moment"):
            low, high = getattr(self, f"contact_{what}"), getattr(self, f"collision_{what}")
            check(0.0 < low <= high, f"contact_{what}", low, f"above 0 and at most {high}")
        for name in ("rest_force", "rest_moment", "rest_time", "reset_speed", "grip_speed"):
            check(getattr(self, name) > 0.0, name, getattr(self, name), "positive")
        for name in ("position_tolerance", "rotation_tolerance", "mass_tolerance"):
            check(getattr(self, name) > 0.0, name, getattr(self, name), "positive")
        check(self.reset_speed <= 0.25, "reset_speed", self.reset_speed, "at most 0.25 m/s")
        check(0.0 <= self.reset_lift <= 0.3, "reset_lift", self.reset_lift, "0 to 0.3 m")
        check(0.0 < self.grip_force <= 70.0, "grip_force", self.grip_force, "at most 70 N")


def check_against(config: FrankaConfig, control: ControlConfig) -> None:
    """Refuse settings of robot and controller that can't work together.

    Raises:
        ConfigError: The controller's normal push would stop the robot, or a payload error that is
            let pass could move an arm that should hold.
    """
    check(
        not control.disabled_stages,
        "disabled_stages",
        control.disabled_stages,
        "empty on a real arm: every stage of the chain on",
    )
    push = max(control.stiffness) * control.max_stretch
    check(
        config.collision_force >= 1.5 * push,
        "collision_force",
        config.collision_force,
        f"at least 1.5 times the controller's push of {push:g} N (stiffness x max_stretch)",
    )
    weakest = min(control.stiffness) * control.max_stretch
    check(
        config.rest_force <= 0.5 * weakest,
        "rest_force",
        config.rest_force,
        f"at most half of the controller's push of {weakest:g} N (stiffness x max_stretch)",
    )
