"""Where a run stands: pure functions of the counts of env steps and updates.

    collect -> warmup -> online

During collect the base (or an untrained policy) acts and nothing is learned; during warmup only the
critics learn; online the actor learns, and its edits of the base grow to their full reach.
"""

from __future__ import annotations

from typing import Literal

from learner.config import LearnerConfig

Phase = Literal["collect", "warmup", "online"]


def collect_steps(config: LearnerConfig) -> int:
    """Return the number of env steps before learning."""
    return round(config.collect * config.total_steps)


def warmup_updates(config: LearnerConfig) -> int:
    """Return the number of critic-only updates, in whole compiled calls."""
    calls = round(config.warmup * config.total_steps / config.actor_every)
    return calls * config.actor_every


def phase(config: LearnerConfig, env_steps: int, updates: int) -> Phase:
    """Return where the run stands."""
    if env_steps < collect_steps(config):
        return "collect"
    return "warmup" if updates < warmup_updates(config) else "online"


def gain(config: LearnerConfig, env_steps: int, updates: int) -> float:
    """Return the share of its reach that an edit has now, in [0, 1]."""
    if phase(config, env_steps, updates) != "online":
        return 0.0
    ramp = config.ramp * config.total_steps
    if ramp <= 0:
        return 1.0
    return min(1.0, (env_steps - collect_steps(config)) / ramp)
