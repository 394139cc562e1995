"""The gain of an edit of the base, as it grows: what acting needs of the residual schedule."""

from __future__ import annotations

from typing import NamedTuple

from learner.algo.schedule import collect_steps, phase
from learner.config import LearnerConfig


class ScaleRamp(NamedTuple):
    """Where the gain's growth began."""

    at: float  # [-], gain then
    since: int  # [env steps]


def initial_ramp(config: LearnerConfig) -> ScaleRamp:
    """Return where a run's ramp begins."""
    return ScaleRamp(0.0, collect_steps(config))


def residual_gain(config: LearnerConfig, ramp: ScaleRamp, env_steps: int, updates: int) -> float:
    """Return the share of its reach that an edit of the base has now, in [0, 1]."""
    online = phase(config, env_steps, updates) == "online"
    return gain_at(config, ramp, env_steps) if online else 0.0


def gain_at(config: LearnerConfig, ramp: ScaleRamp, env_steps: int) -> float:
    """Return the gain that a ramp has come to, in [0, 1]; 1 where there is no ramp."""
    length = config.ramp * config.total_steps
    grown = max(0, env_steps - ramp.since)  # another actor may have counted less
    return min(1.0, ramp.at + grown / length) if length > 0 else 1.0
