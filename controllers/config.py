"""Settings of the control chain: table [control]."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from handrail.config import check

Triple = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float]  # low x, y, z, high x, y, z [m]
Stage = Literal[
    "target_error", "box", "speed", "keep_out", "contact", "reflex", "energy", "torque", "passivity"
]
STAGES: tuple[Stage, ...] = get_args(Stage)
MAX_BOXES = 8
SIGNED = ("box_low", "box_high", "keep_out", "contact_low", "contact_high", "disabled_stages")


@dataclass(frozen=True)
class ControlConfig:
    """Gains, limits and times of the 1 kHz chain.

    The tool is pushed with at most `stiffness * max_stretch` per axis. Contact speed, not
    stiffness, sets an impact's peak: 0.12 m/s on a 1e5 N/m wall gives about 95 N with this arm.
    """

    # impedance
    stiffness: Triple = (1500.0, 1500.0, 1500.0)  # [N/m], base frame
    rotational_stiffness: float = 80.0  # [N m/rad]
    max_stretch: float = 0.012  # [m], per axis: the spring pulls no harder than at this stretch
    max_rotational_stretch: float = 0.08  # [rad], norm
    stiffness_range: tuple[float, float] = (50.0, 3000.0)  # [N/m], what an action may ask for
    rotational_stiffness_range: tuple[float, float] = (5.0, 150.0)  # [N m/rad], likewise
    damping_ratio: float = 0.8  # [-], of each mode of the arm on its spring
    damping_ratio_range: tuple[float, float] = (0.3, 1.5)  # [-], what an action may ask for
    joint_damping: float = 0.4  # [N m s/rad], outside the null space projector
    posture_stiffness: float = 8.0  # [N m/rad], pulls the elbow to where the episode began
    posture_damping: float = 1.5  # [N m s/rad]
    posture_torque: float = 5.0  # [N m], at most, each joint
    # limits of the target
    target_error_ratio: float = 1.5  # [-], of the stretch: no target is farther from the tool
    max_speed: float = 0.25  # [m/s], of the target
    max_rotation_speed: float = 1.0  # [rad/s], of the target
    box_low: Triple = (0.20, -0.45, 0.0)  # [m], the target stays inside, base frame
    box_high: Triple = (0.75, 0.45, 0.70)  # [m]
    keep_out: tuple[Box, ...] = ()  # [m], boxes that the target never enters, 8 at most
    max_tilt: float = 0.8  # [rad], tilt of the target's z axis from straight down
    contact_speed: float = 0.12  # [m/s], of the target in the contact zone or after a touch
    contact_low: Triple = (0.0, 0.0, 0.0)  # [m], the task's contact zone; low = high is none
    contact_high: Triple = (0.0, 0.0, 0.0)  # [m]
    contact_force_threshold: float = 3.0  # [N], more than that is a touch
    contact_time: float = 0.5  # [s], that a touch is remembered
    # reflex of the risk critic
    reflex_stiffness: float = 200.0  # [N/m], at least what carries twice the force at rest
    reflex_damping_ratio: float = 1.5  # [-]
    reflex_retreat: float = 0.005  # [m], of the target along the force on the tool
    reflex_time: float = 0.2  # [s], shortest reflex
    reflex_ramp: float = 2000.0  # [N/m/s], at which the stiffness comes back
    reflexes_before_stop: int = 3  # reflexes within `reflex_window` that stop the arm
    reflex_window: float = 2.0  # [s]
    # limits of joints and torque
    joint_margin: float = 0.10  # [rad], a repulsive spring acts this close to a joint's limit
    joint_repulsion: float = 80.0  # [N m/rad], of that spring
    speed_share: float = 0.8  # [-], of a joint's speed limit where braking begins
    overspeed_damping: float = 20.0  # [N m s/rad], on the excess
    torque_share: float = 0.95  # [-], of the joint's torque limit that the gate allows
    torque_rate: float = 0.999  # [N m/tick], Franka aborts above 1
    # energy tank
    tank_start: float = 1.0  # [J], at reset
    tank_max: float = 2.0  # [J]
    tank_min: float = 0.05  # [J]
    refill: float = 0.5  # [W], while healthy and following, up to tank_start
    dissipation_credit: float = 0.9  # [-], share of dissipated energy that is credited
    human_energy_loan: float = 1.0  # [J], lent to a person at a take-over, at most that per window
    human_loan_window: float = 10.0  # [s]
    # passivity observer
    passivity_damping: float = 20.0  # [N m s/rad], at most, once more energy left than was due
    # watchdog
    stale_periods: float = 2.5  # [policy periods], target older than this: hold
    heartbeat: float = 0.05  # [s], actor's heartbeat older than this: hold
    hold_time: float = 0.3  # [s], of holding before the stiffness ramps down
    stop_time: float = 1.0  # [s], of holding and ramping before the soft stop
    stop_stiffness: float = 0.1  # [-], share of the stiffness left at the soft stop
    recovery_time: float = 0.3  # [s], for the stiffness to come back from nothing
    force_limit: float = 150.0  # [N], filtered force on the tool above this: soft stop
    disabled_stages: tuple[Stage, ...] = ()  # for experiments in simulation only
    dt: float = 0.001  # [s], control period

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name == "disabled_stages":
                continue
            value = getattr(self, item.name)
            values = value if isinstance(value, tuple) else (value,)
            for v in sum(values, ()) if item.name == "keep_out" else values:
                check(math.isfinite(v), item.name, value, "finite")
                if item.name not in SIGNED:
                    check(v >= 0.0, item.name, value, "at least 0")
        for name in ("stiffness_range", "rotational_stiffness_range", "damping_ratio_range"):
            low, high = getattr(self, name)
            check(0.0 < low <= high, name, (low, high), "two rising positive numbers")
        check(self.stiffness_range[1] <= 4000.0, "stiffness_range", self.stiffness_range, "<= 4000")
        check(len(self.keep_out) <= MAX_BOXES, "keep_out", self.keep_out, f"{MAX_BOXES} at most")
        for box in self.keep_out:
            sides = [high - low for low, high in zip(box[:3], box[3:], strict=True)]
            check(min(sides) >= 0.002, "keep_out", box, "low x, y, z, then high, >= 2 mm thick")
        zone = list(zip(self.contact_low, self.contact_high, strict=True))
        check(all(a <= b for a, b in zone), "contact_low", self.contact_low, "below contact_high")
        check(0.0 < self.contact_speed <= 0.25, "contact_speed", self.contact_speed, "<= 0.25 m/s")
        check(self.human_loan_window > 0.0, "human_loan_window", self.human_loan_window, "positive")
        check(
            self.reflexes_before_stop >= 1,
            "reflexes_before_stop",
            self.reflexes_before_stop,
            "1 or more",
        )
        check(self.reflex_window > 0.0, "reflex_window", self.reflex_window, "positive")
        check(0.0 < self.dt <= 0.002, "dt", self.dt, "in (0, 0.002] s")
        check(self.max_stretch > 0.0, "max_stretch", self.max_stretch, "positive")
        check(
            self.max_rotational_stretch > 0.0,
            "max_rotational_stretch",
            self.max_rotational_stretch,
            "positive",
        )
        check(max(self.stiffness) <= 4000.0, "stiffness", self.stiffness, "at most 4000 N/m")
        check(
            self.target_error_ratio >= 1.0,
            "target_error_ratio",
            self.target_error_ratio,
            "at least 1",
        )
        check(self.torque_rate < 1.0, "torque_rate", self.torque_rate, "below 1 N m per tick")
        check(0.0 < self.torque_share <= 1.0, "torque_share", self.torque_share, "in (0, 1]")
        check(
            self.dissipation_credit <= 1.0,
            "dissipation_credit",
            self.dissipation_credit,
            "at most 1",
        )
        check(self.stop_stiffness <= 1.0, "stop_stiffness", self.stop_stiffness, "at most 1")
        check(self.recovery_time > 0.0, "recovery_time", self.recovery_time, "positive")
        check(
            all(low < high for low, high in zip(self.box_low, self.box_high, strict=True)),
            "box_low",
            self.box_low,
            f"below box_high {self.box_high}",
        )
        check(
            self.tank_min < self.tank_start <= self.tank_max,
            "tank_start",
            self.tank_start,
            f"between tank_min {self.tank_min} and tank_max {self.tank_max}",
        )
        check(
            self.hold_time < self.stop_time, "hold_time", self.hold_time, f"below {self.stop_time}"
        )
