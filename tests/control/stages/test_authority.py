"""Who has the arm: stop over person over policy; loans; holding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, PARAMS, rest

from controllers.authority import decay_loan_window, transfer_authority
from controllers.chain import initial_state, step
from controllers.packed import CMD, STATE, empty_command_buffer
from controllers.robot import Authority, Fault, Mode
from controllers.watchdog import hold, update_mode


def test_a_person_is_lent_energy_and_gives_the_rest_back():
    state = initial_state(PARAMS)
    state[STATE.tank] = 0.5
    assert transfer_authority(PARAMS, state, float(Authority.HUMAN))
    assert state[STATE.tank] == pytest.approx(0.5 + CONFIG.human_energy_loan)
    assert state[STATE.mode] == Mode.HUMAN
    state[STATE.tank] -= 0.4  # the person spends some
    assert transfer_authority(PARAMS, state, float(Authority.POLICY))
    assert state[STATE.tank] == pytest.approx(max(CONFIG.tank_min, 0.1))
    assert state[STATE.mode] == Mode.FOLLOWING


def test_a_loan_is_taken_back_once():
    state = initial_state(PARAMS)
    state[STATE.tank] = 0.5
    for source in (Authority.HUMAN, Authority.POLICY):
        transfer_authority(PARAMS, state, float(source))
    assert state[STATE.loaned_energy] == 0.0
    state[STATE.tank] = 1.5
    state[STATE.authority] = float(Authority.HUMAN)  # nothing was lent this time
    transfer_authority(PARAMS, state, float(Authority.POLICY))
    assert state[STATE.tank] == 1.5


def test_a_loan_goes_back_when_the_person_falls_silent():
    state = initial_state(PARAMS)
    state[STATE.tank] = 0.5
    transfer_authority(PARAMS, state, float(Authority.HUMAN))
    hold(PARAMS, state)
    assert state[STATE.tank] == pytest.approx(0.5)
    assert state[STATE.authority] == -1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=5, max_size=120), st.floats(0.0, 1.0))
def test_flickering_between_person_and_policy_fills_no_tank(waits, spent):
    state = initial_state(PARAMS)
    state[STATE.tank] = CONFIG.tank_min
    lent, ticks, source = 0.0, 0, float(Authority.POLICY)
    for wait in waits:
        source = 1.0 - source
        before = state[STATE.tank]
        transfer_authority(PARAMS, state, source)
        lent += max(0.0, state[STATE.tank] - before)
        state[STATE.tank] -= spent * (state[STATE.tank] - CONFIG.tank_min)
        for _ in range(wait):
            decay_loan_window(PARAMS, state, 1.0)
        ticks += wait
    windows = 1.0 + ticks * CONFIG.dt / CONFIG.human_loan_window
    assert lent <= CONFIG.human_energy_loan * windows + 1e-9
    assert state[STATE.tank] <= CONFIG.tank_max


@pytest.mark.slow
def test_a_stop_outranks_a_person():
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.seq], command_buffer[CMD.authority] = 0, float(Authority.HUMAN)
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    state, _ = step(PARAMS, state, rest(), command_buffer)
    assert state[STATE.mode] == Mode.HUMAN
    command_buffer[CMD.stop] = float(Fault.COMMANDED)
    state, _ = step(PARAMS, state, rest(), command_buffer)
    assert state[STATE.mode] == Mode.SOFT_STOP
    assert state[STATE.fault] == Fault.COMMANDED
    command_buffer[CMD.seq] = 1
    state, _ = step(PARAMS, state, rest(), command_buffer)
    assert state[STATE.mode] == Mode.SOFT_STOP


def test_holding_draws_the_target_to_a_quarter_of_the_clip():
    state = initial_state(PARAMS)
    state[STATE.target : STATE.target + 3] += [0.015, -0.001, -0.02]
    state[STATE.goal : STATE.goal + 3] += [0.3, 0.3, 0.3]
    pull = state[STATE.target : STATE.target + 3] - state[STATE.pose : STATE.pose + 3]
    hold(PARAMS, state)
    quarter = 0.25 * CONFIG.max_stretch
    drawn = state[STATE.goal : STATE.goal + 3] - state[STATE.pose : STATE.pose + 3]
    np.testing.assert_allclose(drawn, np.clip(pull, -quarter, quarter))
    assert (state[STATE.start : STATE.start + 7] == state[STATE.goal : STATE.goal + 7]).all()


@pytest.mark.parametrize(
    ("stale", "share"), [(0.0, 1.0), (0.3, 1.0), (0.65, 0.55), (0.9, 0.229), (1.0, 0.1)]
)
def test_stiffness_ramps_down_from_the_hold_to_the_soft_stop(stale, share):
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    state[STATE.ticks_stale] = stale / CONFIG.dt
    assert update_mode(PARAMS, state, rest(), command_buffer) == pytest.approx(share, abs=1e-3)
