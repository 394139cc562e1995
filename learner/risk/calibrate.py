"""Set a critic's probabilities and its threshold by episodes that training hasn't seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handrail.errors import ConfigError
from handrail.risk_critic.format import Layer, RiskCritic
from learner.risk.config import RiskConfig
from learner.risk.episodes import Episode, windows_of
from learner.risk.network import critic_logits
from learner.risk.threshold import Threshold, choose_threshold


class Scored(NamedTuple):
    """Episodes with what a critic says of every tick."""

    episodes: list[Episode]
    logits: list[np.ndarray]  # of the most pessimistic head, each (T,) float64

    @property
    def risks(self) -> list[np.ndarray]:
        """The risk of every tick, each (T,)."""
        return [sigmoid(logit) for logit in self.logits]

    @property
    def safe(self) -> list[np.ndarray]:
        """The risks of the episodes without a violation."""
        pairs = zip(self.episodes, self.risks, strict=True)
        return [risk for episode, risk in pairs if not episode.violates]

    @property
    def dt(self) -> float:
        """Control period [s]."""
        return self.episodes[0].dt


def score(critic: RiskCritic, episodes: Sequence[Episode]) -> Scored:
    """Return episodes with a critic's word on them.

    Raises:
        ConfigError: No safe episode, or none with a violation, or the critic needs more features.
    """
    bad = sum(episode.violates for episode in episodes)
    if bad == len(episodes):
        raise ConfigError(
            f"no safe episode among {len(episodes)} held-out ones: a false-alarm rate needs some; "
            f"collect gentler ones, or raise risk.force_limit"
        )
    if bad == 0:
        raise ConfigError(
            f"no violation in {len(episodes)} held-out episodes: what the critic misses can't be "
            f"told; collect harder pushes, or lower risk.force_limit"
        )
    width = min(episode.features.shape[1] for episode in episodes)
    if not critic.heads or critic.mean.size > width:
        raise ConfigError(
            f"the critic has {critic.heads} heads of {critic.mean.size} features, the episodes "
            f"have {width}; train one on such episodes"
        )
    every = np.concatenate([episode.features[:, : critic.mean.size] for episode in episodes])
    ends = np.cumsum([len(episode.features) for episode in episodes])[:-1]
    said = critic_logits(critic, every).max(0).astype(np.float64)
    return Scored(list(episodes), np.split(said, ends))


def calibrate(
    critic: RiskCritic, episodes: Sequence[Episode], config: RiskConfig
) -> tuple[RiskCritic, Threshold, Scored]:
    """Return the critic with probabilities and thresholds set, and its word on the episodes.

    Args:
        critic: Trained, not empty.
        episodes: With and without violations, none of them seen in training.
        config: Table [risk].

    Raises:
        ConfigError: See `score`.
    """
    scored = score(critic, episodes)
    scale, offset = platt(scored, config)
    scored = scored._replace(logits=[scale * logit + offset for logit in scored.logits])
    threshold = choose_threshold(scored.safe, scored.dt, config)
    kernel, bias = critic.layers[-1]
    last = Layer((kernel * scale).astype(np.float32), (bias * scale + offset).astype(np.float32))
    critic = critic._replace(
        layers=(*critic.layers[:-1], last), threshold_on=threshold.on, threshold_off=threshold.off
    )
    return critic, threshold, scored


def platt(scored: Scored, config: RiskConfig) -> tuple[float, float]:
    """Return scale and offset of the logits that fit best what came of the windows.

    The scale is positive, so that the order of risks is unchanged.

    Source:
        J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    logit, outcome = on_windows(scored, config)
    x = np.stack([logit, np.ones_like(logit)], 1)
    weights = prior = np.array([1.0, 0.0])
    for _ in range(30):  # Newton; the ridge keeps it where the data say little
        risk = sigmoid(x @ weights)
        gradient = x.T @ (risk - outcome) + (weights - prior)
        curvature = (x.T * (risk * (1.0 - risk))) @ x + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step / max(float(np.abs(step).max()), 1.0)
    return max(float(weights[0]), 0.05), float(weights[1])


def on_windows(scored: Scored, config: RiskConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the logit at the start of every window and what came of it, each (M,)."""
    ticks, discount = config.ticks(scored.dt), config.discount(scored.dt)
    windows = windows_of(scored.episodes, ticks, discount)
    return np.concatenate(scored.logits)[windows.now], windows.outcome


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))
