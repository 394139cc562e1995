"""When is a risk an alarm: thresholds with hysteresis, and the rates that a threshold costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from learner.risk.config import RiskConfig

_GRID = 400  # thresholds that are tried


class Threshold(NamedTuple):
    """A threshold and what is known of it."""

    on: float  # [-]
    off: float  # [-]
    guaranteed: bool  # enough safe episodes for the promised share of false alarms


def alarms(risk: np.ndarray, on: float, off: float) -> np.ndarray:
    """Return at which ticks the alarm is on, shape (T,) bool.

    It begins where the risk is above `on` and lasts until it is below `off`.
    """
    at = np.arange(len(risk))
    raised = np.maximum.accumulate(np.where(risk > on, at, -1))
    ended = np.maximum.accumulate(np.where(risk < off, at, -1))
    return raised > ended


def onsets(alarm: np.ndarray) -> np.ndarray:
    """Return the ticks at which alarms begin."""
    return np.flatnonzero(alarm & ~np.concatenate([[False], alarm[:-1]]))


def false_alarms(
    risks: Sequence[np.ndarray], dt: float, on: float, off: float
) -> tuple[float, float]:
    """Return the false alarms per second and the share of episodes that have one.

    Args:
        risks: Of safe episodes, each (T,).
        dt: Between ticks [s].
        on: Threshold [-].
        off: Where an alarm ends [-].
    """
    counts = [len(onsets(alarms(risk, on, off))) for risk in risks]
    seconds = dt * sum(map(len, risks))
    return sum(counts) / max(seconds, dt), sum(map(bool, counts)) / max(len(counts), 1)


def choose_threshold(risks: Sequence[np.ndarray], dt: float, config: RiskConfig) -> Threshold:
    """Return the lowest threshold that keeps both promised rates on safe episodes.

    The share of episodes is kept for new episodes, too, whatever the critic is worth: the
    threshold is at least the ceil((n + 1)(1 - a))-th smallest of the n episodes' highest risks,
    which a new one exceeds with probability a at most. With fewer than 1/a - 1 episodes no
    threshold below 1 can promise that; the highest one seen is taken, and it is said.

    Args:
        risks: Of safe episodes that training hasn't seen, each (T,).
        dt: Between ticks [s].
        config: Table [risk].

    Source:
        V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005.
    """
    peaks = np.sort([float(risk.max()) for risk in risks])
    rank = math.ceil((len(peaks) + 1) * (1.0 - config.false_alarm_episodes))
    lowest = float(peaks[min(rank, len(peaks)) - 1]) if rank > 0 else 0.0
    grid = np.linspace(lowest, max(lowest, float(peaks[-1])), _GRID)
    on = float(grid[-1])
    for candidate in grid[::-1]:  # from the safe side, as the rate need not fall evenly
        rate, _ = false_alarms(risks, dt, candidate, config.hysteresis * candidate)
        if rate > config.false_alarms:
            break
        on = float(candidate)
    # stored as float32: rounded up, so that the risk that was just below stays below
    on = float(np.nextafter(np.float32(min(on, 1.0)), np.float32(1.0)))
    return Threshold(on, config.hysteresis * on, rank <= len(peaks))


def lead_times(
    risks: Sequence[np.ndarray], starts: Sequence[int], dt: float, on: float, off: float
) -> np.ndarray:
    """Return how long before its violation each episode's alarm began [s], NaN for a miss.

    Only an alarm that is still on when the violation begins has announced it.

    Args:
        risks: Of violating episodes, each (T,).
        starts: Tick of each one's first violation.
        dt: Between ticks [s].
        on: Threshold [-].
        off: Where an alarm ends [-].
    """
    found = []
    for risk, start in zip(risks, starts, strict=True):
        alarm = alarms(risk[:start], on, off)
        if not len(alarm) or not alarm[-1]:
            found.append(math.nan)
        else:
            found.append((start - onsets(alarm)[-1]) * dt)
    return np.array(found)
