"""The gate's account: what is paid, granted, refused and given back."""

from __future__ import annotations

import numpy as np
import pytest
from made_chain import CONFIG, PARAMS, rest

from controllers.chain import initial_state, step
from controllers.energy_gate import limit_step_by_energy
from controllers.impedance import spring
from controllers.kinematics import READY, forward
from controllers.packed import MEAS, PARAM, STATE, empty_command_buffer


def gated(lead: float, tank: float, held: np.ndarray, wanted_lead: float) -> tuple:
    """Return the state after the gate, what the springs held before it, and the torque."""
    state, jacobian, pose = initial_state(PARAMS), np.empty((6, 7)), np.empty(7)
    forward(READY, PARAMS[PARAM.tool : PARAM.tool + 3], pose, jacobian)
    state[STATE.target + 2] = state[STATE.pose + 2] + lead
    state[STATE.tank] = tank
    wanted = state[STATE.target : STATE.target + 7].copy()
    wanted[2] = state[STATE.pose + 2] + wanted_lead
    stiffness, torque = state[STATE.stiffness : STATE.stiffness + 4].copy(), np.empty(7)
    target = state[STATE.target : STATE.target + 7].copy()
    before = spring(PARAMS, stiffness, state[STATE.pose : STATE.pose + 7], target, np.empty(6))
    limit_step_by_energy(PARAMS, state, jacobian, np.zeros(7), held, wanted, stiffness, 1.0, torque)
    return state, before, torque


def held_by(lead: float) -> np.ndarray:
    """Return the torque that a spring with this lead asks for at rest."""
    return gated(lead, 1e6, np.full(7, np.nan), lead)[2]


@pytest.mark.parametrize("lead", [0.004, 0.012, 0.018])
def test_a_spring_that_can_not_be_held_is_let_go_and_pays_back_what_it_gives_up(lead):
    state, before, torque = gated(lead, 1.0, np.zeros(7), lead)
    assert state[STATE.stiffness_scale] < 1.0
    assert np.abs(torque).max() <= CONFIG.torque_rate
    assert state[STATE.tank] + state[STATE.spring] == pytest.approx(1.0 + before, abs=1e-12)
    assert state[STATE.spring] == pytest.approx(state[STATE.stiffness_scale] * before)
    assert state[STATE.tank] > 1.0


@pytest.mark.parametrize(("paid", "granted"), [(1.01, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_a_step_is_granted_as_far_as_the_tank_pays(paid, granted):
    lead, step, stiff = 0.004, 0.0005, CONFIG.stiffness[2]
    whole = 0.5 * stiff * ((lead + step) ** 2 - lead**2)
    tank = CONFIG.tank_min + paid * whole
    state, before, _ = gated(lead, tank, held_by(lead), lead + step)
    after = 0.5 * stiff * (state[STATE.target + 2] - state[STATE.pose + 2]) ** 2
    assert state[STATE.gate] == pytest.approx(granted, abs=0.05)
    assert state[STATE.gate_low] == state[STATE.gate_sum] == state[STATE.gate]
    assert state[STATE.spring] == pytest.approx(after, abs=1e-9)
    assert state[STATE.tank] + state[STATE.spring] == pytest.approx(tank + before, abs=1e-12)
    assert state[STATE.tank] >= CONFIG.tank_min - 1e-12
    assert state[STATE.energy_injected] == pytest.approx(after - before, abs=1e-9)
    assert state[STATE.energy_refused] == pytest.approx(whole - (after - before), abs=1e-9)


def test_a_step_that_relaxes_the_spring_fills_the_tank_and_injects_nothing():
    state, before, _ = gated(0.004, 0.5, held_by(0.004), 0.0038)
    assert state[STATE.gate] == 1.0
    assert state[STATE.tank] == pytest.approx(0.5 + before - state[STATE.spring])
    assert state[STATE.tank] > 0.5
    assert state[STATE.energy_injected] == state[STATE.energy_refused] == 0.0


@pytest.mark.parametrize("elapsed", [1.0, 3.0])
def test_the_tank_refills_with_its_power_and_no_further_than_its_start(elapsed):
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.elapsed] = elapsed
    state[STATE.tank] = start = 0.5 * CONFIG.tank_start
    state, _ = step(PARAMS, state, measurement, empty_command_buffer())
    assert state[STATE.tank] - start == pytest.approx(CONFIG.refill * CONFIG.dt * elapsed)
    state[STATE.tank] = CONFIG.tank_start - 1e-9
    state, _ = step(PARAMS, state, measurement, empty_command_buffer())
    assert state[STATE.tank] == pytest.approx(CONFIG.tank_start, abs=1e-12)
