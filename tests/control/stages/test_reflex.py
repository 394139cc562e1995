"""The risk critic's reflex: draws back, softens, lasts, latches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, PARAMS, alarm, arm, rest

from controllers.chain import advance, initial_state
from controllers.config import ControlConfig
from controllers.force_bias import estimate_bias
from controllers.impedance import spring
from controllers.packed import MEAS, STATE, empty_command_buffer, pack_params
from controllers.risk import FEATURES, NUM_FEATURES
from controllers.robot import Fault, Mode, Request
from controllers.safety_reflex import apply_reflex
from handrail.risk_critic.format import Layer, RiskCritic, pack_critic


def pressed(params: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return state, reading, target and stiffness of an arm that pushes down with 12 N."""
    state, measurement = initial_state(params), rest()
    state[STATE.target + 2] = state[STATE.pose + 2] - 0.010
    state[STATE.seq], state[STATE.risk] = 3.0, 0.9
    measurement[MEAS.wrench + 2] = 12.0
    wanted = state[STATE.target : STATE.target + 7].copy()
    return (
        state,
        measurement,
        wanted,
        state[STATE.commanded_gains : STATE.commanded_gains + 4].copy(),
    )


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.1])
def test_the_critic_is_told_where_the_tool_is_in_its_box(shift):
    kernel = np.zeros((1, NUM_FEATURES, 1), np.float32)
    kernel[0, FEATURES["place"].start] = 5.0
    zero, one = np.zeros(NUM_FEATURES, np.float32), np.ones(NUM_FEATURES, np.float32)
    hidden = Layer(kernel, np.full((1, 1), 2.0, np.float32))
    out = Layer(np.ones((1, 1, 1), np.float32), np.full((1, 1), -2.0, np.float32))
    critic = pack_critic(RiskCritic(1, zero, one, (hidden, out), 0.999, 0.9))
    state, torque = initial_state(PARAMS), np.empty(7)
    centre = state[STATE.pose] - shift
    low, high = (centre - 0.2, *CONFIG.box_low[1:]), (centre + 0.2, *CONFIG.box_high[1:])
    params = pack_params(ControlConfig(box_low=low, box_high=high), 10.0)
    advance(params, state, rest(), empty_command_buffer(), critic, torque)
    assert state[STATE.risk] == pytest.approx(1.0 / (1.0 + np.exp(-5.0 * shift)), rel=1e-5)


def test_the_reflex_draws_back_and_softens_in_the_same_tick():
    state, measurement, wanted, stiffness = pressed(PARAMS)
    here = state[STATE.pose + 2]
    assert not apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness)
    assert (stiffness[:3] == CONFIG.reflex_stiffness).all()
    assert wanted[2] - here == pytest.approx(-0.003 + CONFIG.reflex_retreat)
    assert state[STATE.reflex_active] == 1.0


def test_the_reflex_lasts_has_hysteresis_and_lets_stiffness_back_on_a_ramp():
    state, measurement, _, _ = pressed(PARAMS)
    trail = []
    for k in range(1600):
        wanted = state[STATE.target : STATE.target + 7].copy()
        stiffness = state[STATE.commanded_gains : STATE.commanded_gains + 4].copy()
        state[STATE.risk] = 0.9 if k < 300 else 0.2 if k < 400 else 0.1
        apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness)
        trail.append((state[STATE.reflex_active], stiffness[0]))
    active = [bool(on) for on, _ in trail]
    assert all(active[:400])  # 0.2 is below `on` but not below `off`
    assert not any(active[401:])
    soft = np.array([k for _, k in trail])
    assert soft[399] == CONFIG.reflex_stiffness
    assert np.diff(soft[401:]).max() <= CONFIG.reflex_ramp * CONFIG.dt + 1e-9
    assert soft[-1] == CONFIG.stiffness[0]


def test_a_short_alarm_still_gives_a_whole_reflex():
    state, measurement, wanted, stiffness = pressed(PARAMS)
    ticks = 0
    for _ in range(1000):
        apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness)
        state[STATE.risk] = 0.0
        ticks += int(state[STATE.reflex_active])
    assert ticks == pytest.approx(CONFIG.reflex_time / CONFIG.dt, abs=2)


def test_the_third_reflex_in_a_row_stops_the_arm():
    state, measurement, wanted, stiffness = pressed(PARAMS)
    latched = []
    for k in range(2400):
        state[STATE.risk] = 0.9 if k % 600 < 10 else 0.0
        latched.append(apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness))
    assert latched.index(True) == 1200
    state, measurement, wanted, stiffness = pressed(PARAMS)
    for k in range(9000):  # far apart they don't add up
        state[STATE.risk] = 0.9 if k % 2500 < 10 else 0.0
        assert not apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.floats(-0.02, 0.02)] * 3),
    st.tuples(*[st.floats(-40.0, 40.0)] * 3),
    st.floats(50.0, 3000.0),
)
def test_the_reflex_only_lowers_the_springs_energy_and_stiffness(offset, force, stiff):
    state, measurement = initial_state(PARAMS), rest()
    state[STATE.stiffness : STATE.stiffness + 3] = stiff
    state[STATE.target : STATE.target + 3] += offset
    state[STATE.risk] = 0.9
    measurement[MEAS.wrench : MEAS.wrench + 3] = force
    wanted = state[STATE.target : STATE.target + 7].copy()
    held = state[STATE.stiffness : STATE.stiffness + 4].copy()
    stiffness = held.copy()
    pose, target = state[STATE.pose : STATE.pose + 7], state[STATE.target : STATE.target + 7].copy()
    apply_reflex(PARAMS, state, measurement, 0.3, 0.15, wanted, stiffness)
    assert (stiffness <= held).all()
    before = spring(PARAMS, held, pose, target, np.empty(6))
    assert spring(PARAMS, stiffness, pose, wanted, np.empty(6)) <= before + 1e-12


def test_the_reflex_still_carries_what_hangs_on_the_hand():
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.wrench + 2] = -5.0  # half a kilogram that nobody compensates
    for _ in range(1000):
        estimate_bias(state, measurement)
    assert state[STATE.force_bias + 2] == pytest.approx(-5.0, rel=0.01)
    state[STATE.risk] = 0.9
    stiffness = state[STATE.commanded_gains : STATE.commanded_gains + 4].copy()
    apply_reflex(
        PARAMS,
        state,
        measurement,
        0.3,
        0.15,
        state[STATE.target : STATE.target + 7].copy(),
        stiffness,
    )
    assert stiffness[2] * CONFIG.max_stretch >= 2.0 * 5.0 * 0.99


def test_a_critic_that_cries_wolf_stops_the_arm_and_a_quiet_one_changes_no_bit():
    control = ControlConfig(reflexes_before_stop=1)
    loud, quiet, none = (arm(control) for _ in range(3))
    loud.critic, quiet.critic = alarm(), alarm(-1.0)
    seen = []
    for robot in (loud, quiet, none):
        snapshot = robot.snapshot()
        for seq in range(5):
            ahead = snapshot.target_position + np.array([0.0, 0.008, 0.0])
            snapshot = robot.run(Request(seq, 0, ahead, DOWN, 0.0), 100)
        seen.append(snapshot)
    assert seen[0].mode == Mode.SOFT_STOP
    assert seen[0].fault == Fault.REFLEXES
    assert seen[1].risk_peak < 0.01
    assert seen[1].reflex_ticks == 0
    assert (seen[1].q == seen[2].q).all()
