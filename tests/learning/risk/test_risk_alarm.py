"""Alarms and thresholds of the risk critic, and the figures that judge them."""

import math

import numpy as np
import pytest
from made_critic import made_episodes

from learner.risk.calibrate import Scored, platt
from learner.risk.config import RiskConfig
from learner.risk.labels import outcomes
from learner.risk.metrics import area_under_curve, reliability
from learner.risk.threshold import alarms, choose_threshold, false_alarms, lead_times, onsets


def test_alarm_lasts_until_the_risk_is_low():
    risk = np.array([0.1, 0.6, 0.4, 0.31, 0.2, 0.4, 0.7])
    alarm = alarms(risk, 0.5, 0.3)
    assert alarm.tolist() == [False, True, True, True, False, False, True]
    assert onsets(alarm).tolist() == [1, 6]
    assert false_alarms([risk, np.zeros(3)], 0.1, 0.5, 0.3) == (2.0, 0.5)


def test_only_an_alarm_that_lasts_has_announced_the_violation():
    early = np.array([0.9, 0.1, 0.1, 0.1, 1.0])
    late = np.array([0.1, 0.9, 0.4, 0.4, 1.0])
    found = lead_times([early, late, late[:1]], [4, 4, 0], 0.01, 0.5, 0.3)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(0.03)


def walks(count, seed, ticks=200):
    """Return safe risks: noise about a level of each episode's own."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(rng.beta(2.0, 6.0) + 0.05 * rng.normal(size=ticks), 0.0, 1.0) for _ in range(count)
    ]


def test_threshold_keeps_its_rates_and_not_by_never_alarming():
    config = RiskConfig(false_alarms=0.2, false_alarm_episodes=0.1)
    here = walks(200, 0)
    threshold = choose_threshold(here, 0.001, config)
    rate, share = false_alarms(here, 0.001, threshold.on, threshold.off)
    assert threshold.guaranteed
    assert rate <= 0.2
    assert share <= 0.1
    assert threshold.on < 0.95
    assert threshold.off == pytest.approx(0.5 * threshold.on)


@pytest.mark.slow
def test_share_of_false_alarms_holds_for_new_episodes():
    config = RiskConfig(false_alarms=1.0, false_alarm_episodes=0.2)
    shares = []
    for seed in range(30):
        threshold = choose_threshold(walks(30, 2 * seed), 0.001, config)
        shares.append(false_alarms(walks(30, 2 * seed + 1), 0.001, threshold.on, threshold.off)[1])
    assert np.mean(shares) <= 0.2 + 0.02
    assert np.mean(shares) >= 0.1


def test_too_few_safe_episodes_promise_nothing_and_it_is_said():
    threshold = choose_threshold(walks(5, 0), 0.001, RiskConfig(false_alarm_episodes=0.1))
    assert not threshold.guaranteed


def test_area_under_the_curve_is_the_chance_to_be_ranked_right():
    label = np.array([0, 0, 1, 1], bool)
    assert area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), label) == 0.75
    assert area_under_curve(np.ones(4), label) == 0.5
    assert math.isnan(area_under_curve(np.ones(4), np.zeros(4, bool)))


CONFIG = RiskConfig(horizon=0.1)


def test_platt_puts_an_overconfident_critic_right():
    episodes = made_episodes(20)
    truth = [outcomes(e.violation, 20, CONFIG.discount(e.dt)) for e in episodes]
    logits = [np.log((0.9 * t + 0.05) / (0.95 - 0.9 * t)) for t in truth]
    overconfident = Scored(episodes, [3.0 * logit + 1.0 for logit in logits])
    scale, offset = platt(overconfident, CONFIG)
    corrected = Scored(episodes, [scale * x + offset for x in overconfident.logits])
    before, after = reliability(overconfident, CONFIG), reliability(corrected, CONFIG)
    assert scale > 0.0
    assert after["brier"] <= before["brier"]


def test_a_share_of_one_promises_nothing_about_episodes():
    risks = [np.full(1000, peak) for peak in (0.2, 0.4, 0.6)]
    config = RiskConfig(false_alarms=1.0, false_alarm_episodes=1.0)
    assert choose_threshold(risks, 0.001, config).on < 0.2
    careful = RiskConfig(false_alarms=1.0, false_alarm_episodes=0.25)
    assert choose_threshold(risks, 0.001, careful).on == pytest.approx(0.6, rel=1e-5)
