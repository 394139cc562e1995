"""Settings of the risk critic: table [risk]."""

from __future__ import annotations

import math
from dataclasses import dataclass

from handrail.config import check
from handrail.risk_critic.format import MAX_HEADS, MAX_LAYERS, MAX_WIDTH


@dataclass(frozen=True)
class RiskConfig:
    """What a violation is, how far ahead the critic looks, how it is trained and calibrated.

    The discount belongs to the horizon, not to the rate: gamma = exp(-window / horizon).
    """

    # what a violation is
    force_limit: float = 30.0  # [N], of the task: |F| on the tool above this
    tank_margin: float = 1e-3  # [J], tank this close to its floor while the gate holds back
    joint_margin: float = 0.05  # [rad], to a joint's limit
    # what the critic predicts
    window: float = 0.020  # [s], of one label; a tick's bootstrap is hopeless at 1 kHz
    horizon: float = 0.3  # [s], a violation this far ahead counts 1/e
    use_place: bool = False  # also show where the tool is; knows one scene better, others worse
    # training
    heads: int = 2  # [-], the most pessimistic one counts
    hidden: tuple[int, ...] = (128, 128)  # [-], widths
    lr: float = 1e-3  # [-], AdamW's step
    weight_decay: float = 1e-3  # [-], decoupled
    tau: float = 0.01  # [-], share of the new weights in the target's per step
    batch: int = 256  # [windows], per head
    positive: float = 0.3  # [-], share of violating windows in a batch
    steps: int = 4000  # [steps], at most
    evaluate_every: int = 200  # [steps]
    patience: int = 6  # [evaluations] without a new minimum on held-out episodes
    validation: float = 0.2  # [-], share of the episodes that end training
    calibration: float = 0.3  # [-], share of the episodes that set the threshold
    seed: int = 0  # [-], of split, weights and batches
    # alarm
    false_alarms: float = 0.05  # [1/s], at most, on held-out safe episodes
    false_alarm_episodes: float = 0.1  # [-], share of safe episodes with an alarm, at most
    hysteresis: float = 0.5  # [-], an alarm ends below this share of the threshold
    warning_time: float = 0.050  # [s], an alarm this long before a violation is in time

    def __post_init__(self) -> None:
        for name in ("force_limit", "window", "horizon", "lr", "batch", "steps", "warning_time"):
            value = getattr(self, name)
            check(math.isfinite(value) and value > 0, name, value, "positive")
        for name in ("evaluate_every", "patience"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("tank_margin", "joint_margin", "weight_decay", "seed"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("positive", "validation", "calibration", "hysteresis"):
            check(0 < getattr(self, name) < 1, name, getattr(self, name), "between 0 and 1")
        for name in ("false_alarms", "false_alarm_episodes"):
            check(0 < getattr(self, name) <= 1, name, getattr(self, name), "within 0 .. 1, 0 not")
        check(self.batch >= 2, "batch", self.batch, "at least 2")
        check(0 < self.tau <= 1, "tau", self.tau, "within 0 .. 1, 0 not")
        held_out = self.validation + self.calibration
        check(held_out < 1, "validation + calibration", held_out, "below 1")
        check(1 <= self.heads <= MAX_HEADS, "heads", self.heads, f"within 1 .. {MAX_HEADS}")
        layers = f"1 to {MAX_LAYERS} widths within 1 .. {MAX_WIDTH}"
        check(1 <= len(self.hidden) <= MAX_LAYERS, "hidden", self.hidden, layers)
        check(all(0 < w <= MAX_WIDTH for w in self.hidden), "hidden", self.hidden, layers)
        check(self.window < self.horizon, "window", self.window, f"below horizon {self.horizon} s")

    def ticks(self, dt: float) -> int:
        """Return the control ticks of a window, at least 1.

        Args:
            dt: Control period [s].
        """
        return max(1, round(self.window / dt))

    def discount(self, dt: float) -> float:
        """Return gamma per window [-]."""
        return math.exp(-self.ticks(dt) * dt / self.horizon)
