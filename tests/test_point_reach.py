"""Learning smoke: a residual corrects a base that is always off."""

from __future__ import annotations

import pytest
from point_reach import biased_demos, success_rate, train

from learner.config import BaseConfig
from learner.presets import preset

BASE = BaseConfig(chunk=4, execute=4, hidden=(64, 64), max_steps=1500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_residual_corrects_a_biased_base_within_two_thousand_steps(seed):
    config = preset(
        "resfit", total_steps=2000, hidden=(64, 64), batch=64, ensemble=3, discount=0.95
    )
    _, policy = train(config, BASE, seed, biased_demos(20, seed))
    base = success_rate(policy, "base")
    assert success_rate(policy, "eval") >= 0.95
    assert base < 0.9
