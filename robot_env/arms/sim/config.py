"""How imperfect the simulated arm is: table `[robot]`, read also where MuJoCo is not installed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from handrail.config import check

Range = tuple[float, float]
MAX_DELAY = 8  # [ticks], from command to torque


@dataclass(frozen=True)
class MujocoConfig:
    """How imperfect the simulated arm is; ranges are drawn from uniformly at each reset."""

    friction: Range = (0.2, 0.8)  # [N m], Coulomb friction of each joint
    damping: Range = (0.2, 0.6)  # [N m s/rad], of each joint
    payload_error: Range = (-0.05, 0.05)  # [kg], at the hand, not compensated
    delay: int = 1  # [ticks], from command to torque
    loss: float = 0.0  # [-], share of ticks in which a loss of commands begins
    loss_ticks: int = 1  # [ticks], that a loss lasts; the arm holds its last command
    echo: Literal["acted", "sent"] = "acted"  # what the arm says has acted; "sent" is a lie
    encoder_resolution: float = 1e-5  # [rad]
    speed_noise: float = 1e-3  # [rad/s], standard deviation of each joint's velocity
    force_noise: float = 1.0  # [N], standard deviation before the low-pass filter
    torque_noise: float = 0.05  # [N m], likewise
    force_bias: Range = (-0.4, 0.4)  # [N], each axis
    torque_bias: Range = (-0.02, 0.02)  # [N m], each axis
    wrench_filter: float = 0.008  # [s], time constant of the low-pass filter

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "echo":
                continue
            if isinstance(value, tuple):
                check(value[0] <= value[1], item.name, value, "a range [low, high]")
                if item.name in ("friction", "damping"):
                    check(value[0] >= 0.0, item.name, value, "at least 0")
            else:
                check(math.isfinite(value) and value >= 0, item.name, value, "at least 0")
        check(self.loss < 1.0, "loss", self.loss, "below 1")
        check(self.loss_ticks >= 1, "loss_ticks", self.loss_ticks, "1 or more")
        check(self.delay < MAX_DELAY, "delay", self.delay, f"below {MAX_DELAY} ticks")
