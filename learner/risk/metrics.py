"""Say what a critic with its threshold is worth on episodes, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from handrail.risk_critic.format import RiskCritic
from learner.risk.calibrate import Scored, on_windows, sigmoid
from learner.risk.config import RiskConfig
from learner.risk.labels import ticks_to
from learner.risk.threshold import false_alarms, lead_times

BINS = 10  # of the reliability table


def alarm_metrics(critic: RiskCritic, scored: Scored, config: RiskConfig) -> dict[str, Any]:
    """Return what a critic with its thresholds does on episodes, as plain JSON values.

    Args:
        critic: Calibrated.
        scored: Episodes with this critic's word; some safe, some with violations.
        config: Table [risk].
    """
    dt, on, off = scored.dt, critic.threshold_on, critic.threshold_off
    rate, share = false_alarms(scored.safe, dt, on, off)
    lead_time = violation_lead_times(scored, on, off)
    announced = ~np.isnan(lead_time)
    return {
        "version": critic.version,
        "threshold_on": round(on, 6),
        "threshold_off": round(off, 6),
        "safe_episodes": len(scored.safe),
        "violating_episodes": len(lead_time),
        "false_alarms_per_s": round(rate, 5),
        "false_alarm_episodes": round(share, 4),
        "announced": round(float(announced.mean()), 4),
        "announced_in_time": round(float((lead_time >= config.warning_time).mean()), 4),
        "announce_s": config.warning_time,
        "missed": round(float((~announced).mean()), 4),
        "lead_median_s": round(float(np.median(lead_time[announced])), 4)
        if announced.any()
        else None,
        "auc": _separation(scored, config),
        **reliability(scored, config),
    }


def violation_lead_times(scored: Scored, on: float, off: float) -> np.ndarray:
    """Return how long before each violation the alarm began [s]; see `lead_times`.

    Args:
        scored: Episodes with a critic's word.
        on: Threshold [-].
        off: Where an alarm ends [-].
    """
    pairs = zip(scored.episodes, scored.risks, strict=True)
    bad = [(episode, risk) for episode, risk in pairs if episode.violates]
    starts = [int(episode.violation.argmax()) for episode, _ in bad]
    return lead_times([risk for _, risk in bad], starts, scored.dt, on, off)


def area_under_curve(score: np.ndarray, label: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties halved; NaN without both."""
    positives, negatives = int(label.sum()), int((~label).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
    return float((rank[label].sum() - 0.5 * positives * (positives + 1)) / (positives * negatives))


def reliability(scored: Scored, config: RiskConfig) -> dict[str, Any]:
    """Return Brier score, expected calibration error, and the table [said, came, windows]."""
    logit, outcome = on_windows(scored, config)
    risk = sigmoid(logit)
    index = np.minimum((risk * BINS).astype(int), BINS - 1)
    table, error = [], 0.0
    for i in range(BINS):
        here = index == i
        if here.any():
            said, came = float(risk[here].mean()), float(outcome[here].mean())
            error += float(here.mean()) * abs(said - came)
            table.append([round(said, 4), round(came, 4), int(here.sum())])
    brier = float(np.square(risk - outcome).mean())
    return {"brier": round(brier, 5), "ece": round(error, 5), "reliability": table}


def _separation(scored: Scored, config: RiskConfig) -> float | None:
    """Return the AUC of "a violation begins within the horizon", before the first one."""
    values, labels = [], []
    for episode, logit in zip(scored.episodes, scored.logits, strict=True):
        end = int(episode.violation.argmax()) if episode.violates else len(logit)
        values.append(logit[:end])
        labels.append((ticks_to(episode.violation) * episode.dt <= config.horizon)[:end])
    area = area_under_curve(np.concatenate(values), np.concatenate(labels))
    return None if np.isnan(area) else round(area, 4)
