"""Where a run stands: pure functions of the counts of env steps and updates.

    collect -> warmup -> online

During collect the base (or an untrained policy) acts; until the end of warmup only the critics
learn, about a base already while it collects; online the actor learns, and its edits of the base
grow to their full reach, see `trust`. So the actor never follows critics through what they were
taught about nobody but the base: it takes its first step with its first own data on the way.
"""

from __future__ import annotations

import math
from typing import Literal

from learner.config import LearnerConfig

Phase = Literal["collect", "warmup", "online"]


def collect_steps(config: LearnerConfig) -> int:
    """Return the number of env steps before the actor may act."""
    return round(config.collect * config.total_steps)


def warmup_updates(config: LearnerConfig) -> int:
    """Return the number of updates beyond the ratio, in whole compiled calls."""
    calls = round(config.warmup * config.total_steps / config.actor_every)
    return calls * config.actor_every


def critic_updates(config: LearnerConfig) -> int:
    """Return how many updates at first are of the critics only, in whole compiled calls.

    Those of warm-up; and those that the collected steps allow, if a base collected them.
    """
    collected = config.utd * collect_steps(config) if config.needs_base else 0.0
    calls = math.floor(collected / config.actor_every + 1e-9)
    return calls * config.actor_every + warmup_updates(config)


def phase(config: LearnerConfig, env_steps: int, updates: int) -> Phase:
    """Return where the run stands."""
    if env_steps < collect_steps(config):
        return "collect"
    return "warmup" if updates < critic_updates(config) else "online"
