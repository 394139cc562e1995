"""Evolved attacks on the energy bound: the chain holds, and what lacks a piece of it breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.control import PARAMS, critic_of, soak
from benchmarks.studies.adversary import KINDS, search
from handrail.risk_critic.format import pack_critic

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.long
def test_the_chain_keeps_its_energy_bound_under_an_evolved_attack():
    found = search(KINDS["on"], generations=6, seed=5)
    assert 0.5 < found["used"] <= 1.0  # an attack that gets nowhere would prove nothing
    assert found["torque"] == found["rate"] == 0


@pytest.mark.long
def test_the_same_attack_breaks_a_chain_without_its_gate():
    assert search(KINDS["off"], generations=2, seed=5)["used"] > 3.0


@pytest.mark.long
def test_the_same_attack_breaks_a_chain_that_books_the_torque_it_sent():
    assert max(search(KINDS["books_sent"], 8, seed)["used"] for seed in (0, 5)) > 1.05


@pytest.mark.slow
def test_random_ticks_break_no_limit_and_keep_no_memory():
    counts = np.zeros(4)
    critic = pack_critic(critic_of(np.random.default_rng(0)))
    soak(100_000, np.random.default_rng(7), PARAMS, critic, counts)
    assert counts[:3].sum() == 0
    assert counts[3] < 50_000, "most ticks must not be in a fault"


@pytest.mark.long
def test_the_benchmark_of_the_tick_prints_what_it_promises():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "control.py"), "--seconds", "0.5"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    row = json.loads(done.stdout.strip().splitlines()[-1])
    wanted = (
        "tick_us_p50 tick_us_p999 numpy_tick_us_p50 speedup critic_layers tick_vs_bare_law "
        "loop_extra_missed_per_million wakeup_us_p50 wakeup_bare_us_p50"
    )
    assert set(wanted.split()) <= set(row)
    assert row["speedup"] > 1.0
