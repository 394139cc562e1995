"""Settings of the control chain: table [control]."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from handrail.config import check

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ControlConfig:
    """Gains, limits and times of the 1 kHz chain.

    The tool is pushed with at most `stiffness * clip` per axis. Contact speed, not stiffness, sets
    the peak of an impact: 0.12 m/s on a 1e5 N/m wall gives about 95 N with this arm.
    """

    # impedance
    stiffness: Triple = (1500.0, 1500.0, 1500.0)  # [N/m], base frame
    rotational_stiffness: float = 80.0  # [N m/rad]
    clip: float = 0.012  # [m], per axis: the spring pulls no harder than at this stretch
    rotational_clip: float = 0.08  # [rad], norm
    damping_ratio: float = 0.8  # [-], of each axis with the arm's inertia seen there
    joint_damping: float = 0.4  # [N m s/rad], outside the null space projector
    posture_stiffness: float = 8.0  # [N m/rad], pulls the elbow to where the episode began
    posture_damping: float = 1.5  # [N m s/rad]
    posture_torque: float = 5.0  # [N m], at most, each joint
    # limits of the target
    leash: float = 1.5  # [-], target no farther from the tool than this times the clip
    max_speed: float = 0.25  # [m/s], of the target
    max_rotation_speed: float = 1.0  # [rad/s], of the target
    box_low: Triple = (0.20, -0.45, 0.0)  # [m], the target stays inside, base frame
    box_high: Triple = (0.75, 0.45, 0.70)  # [m]
    cone: float = 0.8  # [rad], tilt of the target's z axis from straight down
    # limits of joints and torque
    joint_margin: float = 0.10  # [rad], a repulsive spring acts this close to a joint's limit
    joint_barrier: float = 80.0  # [N m/rad], of that spring
    speed_share: float = 0.8  # [-], of a joint's speed limit where braking begins
    speed_braking: float = 20.0  # [N m s/rad], on the excess
    torque_share: float = 0.95  # [-], of the joint's torque limit that the gate allows
    torque_rate: float = 0.999  # [N m/tick], Franka aborts above 1
    # energy tank
    tank_start: float = 1.0  # [J], at reset
    tank_max: float = 2.0  # [J]
    tank_min: float = 0.05  # [J]
    refill: float = 0.5  # [W], while healthy and following, up to tank_start
    harvest: float = 0.9  # [-], share of dissipated energy that is credited
    # watchdog
    stale_periods: float = 2.5  # [policy periods], target older than this: hold
    heartbeat: float = 0.05  # [s], actor's heartbeat older than this: hold
    hold_time: float = 0.3  # [s], of holding before the stiffness ramps down
    stop_time: float = 1.0  # [s], of holding and ramping before the soft stop
    stop_stiffness: float = 0.1  # [-], share of the stiffness left at the soft stop
    recovery_time: float = 0.3  # [s], for the stiffness to come back from nothing
    force_limit: float = 150.0  # [N], filtered force on the tool above this: soft stop
    dt: float = 0.001  # [s], control period

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            values = value if isinstance(value, tuple) else (value,)
            for v in values:
                check(math.isfinite(v), item.name, value, "finite")
                if item.name not in ("box_low", "box_high"):
                    check(v >= 0.0, item.name, value, "at least 0")
        check(0.0 < self.dt <= 0.002, "dt", self.dt, "in (0, 0.002] s")
        check(self.clip > 0.0, "clip", self.clip, "positive")
        check(self.rotational_clip > 0.0, "rotational_clip", self.rotational_clip, "positive")
        check(max(self.stiffness) <= 4000.0, "stiffness", self.stiffness, "at most 4000 N/m")
        check(self.leash >= 1.0, "leash", self.leash, "at least 1")
        check(self.torque_rate < 1.0, "torque_rate", self.torque_rate, "below 1 N m per tick")
        check(0.0 < self.torque_share <= 1.0, "torque_share", self.torque_share, "in (0, 1]")
        check(self.harvest <= 1.0, "harvest", self.harvest, "at most 1")
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
