"""Learning smoke: a residual corrects a base that is always off."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from point_reach import biased_demos, success_rate, train

from learner.config import BaseConfig
from learner.presets import preset

BASE = BaseConfig(chunk=4, execute=4, hidden=(64, 64), max_steps=1500)
SMALL = {"total_steps": 2000, "hidden": (64, 64), "batch": 128, "num_qs": 3, "discount": 0.95}


def rates(seed: int) -> tuple[float, float]:
    """Return how often the base alone and what was learned arrive."""
    _, policy = train(preset("residual_hil", **SMALL), BASE, seed, biased_demos(20, seed))
    return success_rate(policy, "base", 100), success_rate(policy, "eval", 100)


@pytest.mark.long
def test_residual_corrects_a_biased_base_within_two_thousand_steps():
    # Seeds 0 to 15 gave .81 to 1.0, mean .95, deviation .06: five have a mean below .90 three times
    # in a hundred, and one change of the last bit deals them anew. Where a base is good (.88 on
    # seed 4) a run may end a little behind it (.81), but not by a tenth.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        base, learned = np.array(list(pool.map(rates, range(5)))).T
    assert base.mean() < 0.85
    assert learned.mean() >= 0.90
    assert (learned > base - 0.1).all()
    assert (learned > base).sum() >= 4
