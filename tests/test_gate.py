"""The gate's account: what is paid, granted, refused and given back."""

from __future__ import annotations

import numpy as np
import pytest
from made_chain import CONFIG, PARAMS, rest

from controllers.chain import initial_state, step
from controllers.gate import gate
from controllers.impedance import spring
from controllers.kinematics import READY, forward
from controllers.layout import P, R, S, empty_mailbox


def gated(lead: float, tank: float, held: np.ndarray, wanted_lead: float) -> tuple:
    """Return the state after the gate, what the springs held before it, and the torque."""
    state, jacobian, pose = initial_state(PARAMS), np.empty((6, 7)), np.empty(7)
    forward(READY, PARAMS[P.tool : P.tool + 3], pose, jacobian)
    state[S.target + 2] = state[S.pose + 2] + lead
    state[S.tank] = tank
    wanted = state[S.target : S.target + 7].copy()
    wanted[2] = state[S.pose + 2] + wanted_lead
    stiffness, torque = state[S.stiffness : S.stiffness + 4].copy(), np.empty(7)
    target = state[S.target : S.target + 7].copy()
    before = spring(PARAMS, stiffness, state[S.pose : S.pose + 7], target, np.empty(6))
    gate(PARAMS, state, jacobian, np.zeros(7), held, wanted, stiffness, 1.0, torque)
    return state, before, torque


def held_by(lead: float) -> np.ndarray:
    """Return the torque that a spring with this lead asks for at rest."""
    return gated(lead, 1e6, np.full(7, np.nan), lead)[2]


@pytest.mark.parametrize("lead", [0.004, 0.012, 0.018])
def test_a_spring_that_can_not_be_held_is_let_go_and_pays_back_what_it_gives_up(lead):
    state, before, torque = gated(lead, 1.0, np.zeros(7), lead)
    assert state[S.share] < 1.0
    assert np.abs(torque).max() <= CONFIG.torque_rate
    assert state[S.tank] + state[S.spring] == pytest.approx(1.0 + before, abs=1e-12)
    assert state[S.spring] == pytest.approx(state[S.share] * before)
    assert state[S.tank] > 1.0


@pytest.mark.parametrize(("paid", "granted"), [(1.01, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_a_step_is_granted_as_far_as_the_tank_pays(paid, granted):
    lead, step, stiff = 0.004, 0.0005, CONFIG.stiffness[2]
    whole = 0.5 * stiff * ((lead + step) ** 2 - lead**2)
    tank = CONFIG.tank_min + paid * whole
    state, before, _ = gated(lead, tank, held_by(lead), lead + step)
    after = 0.5 * stiff * (state[S.target + 2] - state[S.pose + 2]) ** 2
    assert state[S.gate] == pytest.approx(granted, abs=0.05)
    assert state[S.gate_low] == state[S.gate_sum] == state[S.gate]
    assert state[S.spring] == pytest.approx(after, abs=1e-9)
    assert state[S.tank] + state[S.spring] == pytest.approx(tank + before, abs=1e-12)
    assert state[S.tank] >= CONFIG.tank_min - 1e-12
    assert state[S.injected] == pytest.approx(after - before, abs=1e-9)
    assert state[S.refused] == pytest.approx(whole - (after - before), abs=1e-9)


def test_a_step_that_relaxes_the_spring_fills_the_tank_and_injects_nothing():
    state, before, _ = gated(0.004, 0.5, held_by(0.004), 0.0038)
    assert state[S.gate] == 1.0
    assert state[S.tank] == pytest.approx(0.5 + before - state[S.spring])
    assert state[S.tank] > 0.5
    assert state[S.injected] == state[S.refused] == 0.0


@pytest.mark.parametrize("elapsed", [1.0, 3.0])
def test_the_tank_refills_with_its_power_and_no_further_than_its_start(elapsed):
    state, reading = initial_state(PARAMS), rest()
    reading[R.elapsed] = elapsed
    state[S.tank] = start = 0.5 * CONFIG.tank_start
    state, _ = step(PARAMS, state, reading, empty_mailbox())
    assert state[S.tank] - start == pytest.approx(CONFIG.refill * CONFIG.dt * elapsed)
    state[S.tank] = CONFIG.tank_start - 1e-9
    state, _ = step(PARAMS, state, reading, empty_mailbox())
    assert state[S.tank] == pytest.approx(CONFIG.tank_start, abs=1e-12)
