"""Risk critics and episodes, made up."""

from itertools import pairwise

import numpy as np

from handrail.risk_critic.format import Layer, RiskCritic
from learner.risk.episodes import Episode


def made_critic(inputs=22, hidden=(16, 16), heads=2, version=1, seed=0) -> RiskCritic:
    rng = np.random.default_rng(seed)
    layers = tuple(
        Layer(
            (rng.normal(size=(heads, a, b)) / a**0.5).astype(np.float32),
            rng.normal(size=(heads, b)).astype(np.float32),
        )
        for a, b in pairwise([inputs, *hidden, 1])
    )
    mean = rng.normal(size=inputs).astype(np.float32)
    rate = rng.uniform(0.5, 2.0, inputs).astype(np.float32)
    return RiskCritic(version, mean, rate, layers, 0.3, 0.15)


def made_episodes(count, seed=0, ticks=400, dt=0.001) -> list[Episode]:
    """Return episodes in which a push grows at a visible speed and violates above 1, or turns."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        speed = rng.uniform(0.5, 8.0) * dt
        push = np.minimum(np.arange(ticks) * speed, rng.uniform(0.4, 1.6))
        level = push + 0.02 * rng.normal(size=ticks)
        rise = np.gradient(push, dt) + 0.2 * rng.normal(size=ticks)
        noise = rng.normal(size=ticks)
        features = np.stack([level, rise, noise], 1).astype(np.float32)
        episodes.append(Episode(features, push > 1.0, dt))
    return episodes
