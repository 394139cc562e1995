"""How many updates the env steps so far allow: exactly that many, never more."""

from __future__ import annotations

import math

from learner.algo.schedule import collect_steps, warmup_updates
from learner.config import LearnerConfig


def allowed(config: LearnerConfig, env_steps: int) -> int:
    """Return the number of updates allowed in all, after so many env steps.

    updates = floor(utd * env_steps) + warm-up

    Before the end of collect there is no warm-up, and without a base nothing at all.
    """
    ratio = math.floor(config.utd * env_steps + 1e-9)
    if env_steps < max(1, collect_steps(config)):
        return ratio if config.needs_base else 0
    return ratio + warmup_updates(config)


def due(config: LearnerConfig, env_steps: int, updates: int) -> int:
    """Return the number of updates allowed now: whole compiled calls only.

    Fewer than `actor_every` updates stay for later, so that the compiled call has one shape.
    """
    left = allowed(config, env_steps) - updates
    return max(0, left // config.actor_every * config.actor_every)
