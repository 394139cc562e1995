"""What a handful of seeds can say about success: averages, intervals, and what is ahead of what.

An outcome is one episode's success. Those of one seed share demonstrations, base and training, so
they are not independent: intervals resample seeds first, then episodes within each.

Source:
    R. Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 4000
SEED = 0  # of the resampling: a page made twice from the same results is the same

Outcomes = Sequence[Sequence[bool]]  # of each seed, its episodes


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean without the lowest and the highest quarter, rounded down to whole values."""
    return float(stats.trim_mean(np.asarray(values, float), 0.25))


def interval(outcomes: Outcomes, level: float = 0.95) -> tuple[float, float]:
    """Return the two-sided bootstrap interval of the mean success over seeds.

    Args:
        outcomes: At least one episode of each seed.
        level: Coverage.
    """
    means = _resampled(outcomes, np.random.default_rng(SEED))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def chance_ahead(ours: Outcomes, theirs: Outcomes) -> float:
    """Return the share of resamples in which our mean success is above theirs, ties half.

    Seeds are paired where both have as many, since they share demonstrations and starts.
    """
    if len(ours) == len(theirs):
        picks = np.random.default_rng(SEED).integers(len(ours), size=(RESAMPLES, len(ours)))
        rng = np.random.default_rng(SEED + 1)
        a, b = (_means(outcomes, picks, rng) for outcomes in (ours, theirs))
    else:
        rng = np.random.default_rng(SEED)
        a, b = _resampled(ours, rng), _resampled(theirs, rng)
    return float((a > b).mean() + 0.5 * (a == b).mean())


def least_lead(policy: Sequence[bool], base: Sequence[bool], looks: int = 1) -> float:
    """Return the one-sided 95 % lower bound of how far a policy is ahead of its base.

    Args:
        policy: Outcomes from some starts.
        base: From the same starts, in the same order.
        looks: Number of comparisons that share the 5 % (Bonferroni).
    """
    lead = np.asarray(policy, float) - np.asarray(base, float)
    if len(lead) < 2:
        return float("-inf")
    quantile = stats.t.ppf(1 - 0.05 / looks, len(lead) - 1)
    return float(lead.mean() - quantile * lead.std(ddof=1) / np.sqrt(len(lead)))


def _resampled(outcomes: Outcomes, rng: np.random.Generator) -> np.ndarray:
    picks = rng.integers(len(outcomes), size=(RESAMPLES, len(outcomes)))
    return _means(outcomes, picks, rng)


def _means(outcomes: Outcomes, picks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the mean of each resample (R,): seeds as picked (R, seeds), their episodes redrawn."""
    total = np.zeros(len(picks))
    for seed, episodes in enumerate(outcomes):
        times = picks == seed
        count, share = len(episodes), float(np.mean(np.asarray(episodes, float)))
        total += np.where(times, rng.binomial(count, share, times.shape) / count, 0.0).sum(1)
    return total / picks.shape[1]
