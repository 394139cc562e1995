"""The rest of the stages, their switches, and the tick that they make."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, PARAMS, START, alarm, arm, rest

from controllers.chain import advance, initial_state, step
from controllers.config import STAGES, ControlConfig
from controllers.jacobi import symmetric_eigen
from controllers.joint_limit_avoidance import limit_repulsion, overspeed_damping
from controllers.kinematics import DQ_MAX
from controllers.packed import CMD, MEAS, PARAM, STAGE, STATE, empty_command_buffer, pack_params
from controllers.passivity_observer import add_passivity_damping
from controllers.robot import Mode, Request
from handrail.errors import ConfigError


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7),
    st.floats(-1.0, 3.0),
    st.lists(st.floats(-20.0, 20.0), min_size=7, max_size=7),
)
def test_the_observer_only_brakes_and_only_what_is_too_much(share, audit, torque):
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.dq : MEAS.dq + 7] = np.array(share) * DQ_MAX
    state[STATE.passivity_balance] = audit
    before, after = np.array(torque), np.array(torque)
    acted = add_passivity_damping(PARAMS, state, measurement, after)
    dq = measurement[MEAS.dq : MEAS.dq + 7]
    if audit <= CONFIG.tank_max - CONFIG.tank_min:
        assert not acted
    assert acted == bool((before != after).any())
    assert (after - before) @ dq <= 1e-12
    slack = CONFIG.passivity_damping * np.abs(dq).max() + 1e-9
    assert np.abs(after - before).max() <= slack


@pytest.mark.parametrize("excess", [-0.1, 0.0, 1e-4, 1e-3, 10.0])
def test_the_observer_brakes_by_what_is_too_much_up_to_its_damping(excess):
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.dq : MEAS.dq + 7] = dq = np.linspace(-0.3, 0.5, 7)
    state[STATE.passivity_balance] = CONFIG.tank_max - CONFIG.tank_min + excess
    torque = np.zeros(7)
    add_passivity_damping(PARAMS, state, measurement, torque)
    alpha = min(max(0.0, excess) / (CONFIG.dt * float(dq @ dq)), CONFIG.passivity_damping)
    np.testing.assert_allclose(torque, -alpha * dq, atol=1e-9)


@pytest.mark.parametrize("speed", [0.02, 0.5])
def test_what_the_observer_brakes_is_sent_within_the_step_of_torque(speed):
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.dq : MEAS.dq + 7] = speed
    state[STATE.passivity_balance] = CONFIG.tank_max - CONFIG.tank_min + 1.0
    deaf = pack_params(ControlConfig(passivity_damping=0.0), 10.0)
    _, without = step(deaf, state, measurement, empty_command_buffer())
    _, braked = step(PARAMS, state, measurement, empty_command_buffer())
    wanted = without - CONFIG.passivity_damping * speed
    rate = CONFIG.torque_rate
    assert (wanted < without - 0.3).all()
    np.testing.assert_allclose(braked, np.clip(wanted, -rate, rate), atol=1e-9)


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_is_braked_from_a_share_of_its_top_speed_on(joint):
    top, share, damping = float(DQ_MAX[joint]), 0.8, 20.0
    for dq in (0.0, 0.79 * top, 0.9 * top, 1.1 * top):
        expected = -damping * max(0.0, dq - share * top)
        assert overspeed_damping(dq, top, share, damping) == pytest.approx(expected)
        assert overspeed_damping(-dq, top, share, damping) == pytest.approx(-expected)


@pytest.mark.parametrize(("q", "push"), [(0.0, 0.0), (0.91, -0.8), (1.0, -8.0), (-0.95, 4.0)])
def test_the_barrier_is_the_slope_of_its_potential(q, push):
    torque, energy = limit_repulsion(q, -1.0, 1.0, 0.1, 80.0)
    assert torque == pytest.approx(push)
    assert energy == pytest.approx(0.5 * push**2 / 80.0)


def test_every_stage_has_its_switch_and_all_are_on():
    assert all(PARAMS[at] == 1.0 for at in STAGE)
    for stage in STAGES:
        params = pack_params(ControlConfig(disabled_stages=(stage,)), 10.0)
        assert [name for name, at in STAGE._asdict().items() if params[at] == 0.0] == [stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_off_changes_what_the_chain_does(stage):
    """Each stage is provoked; without it the run must come out differently."""
    wall = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3" solref="-100000 -200"/>'

    tables = {
        "energy": {"tank_start": 0.06},
        "passivity": {"tank_start": 0.06, "tank_max": 0.06, "refill": 0.0},
        "keep_out": {"keep_out": ((0.2, 0.003, 0.0, 0.9, 0.4, 0.9),)},
        "box": {"box_high": (0.75, 0.45, 0.305)},
    }
    unguarded = ("energy", "torque", "target_error") if stage == "passivity" else ()

    def run(off: tuple) -> np.ndarray:
        table = tables.get(stage, {})
        control = ControlConfig(disabled_stages=(*unguarded, *off), force_limit=1e4, **table)
        robot = arm(control, wall)
        if stage == "reflex":
            robot.critic = alarm()
        snapshot, trail = robot.snapshot(), []
        for seq in range(12):
            way = 0.05 * np.array([np.cos(seq), np.sin(2.0 * seq), np.cos(3.0 * seq)])
            stiff = 3000.0 if seq % 2 else 100.0
            place = START + way
            asked = Request(seq, 0, place, DOWN, 0.0, (stiff,) * 3 + (80.0,))
            snapshot = robot.run(asked, 100)
            trail.append(snapshot.q)
        return np.array(trail)

    assert not np.array_equal(run(()), run((stage,)))


def test_unknown_stages_and_bad_boxes_are_refused():
    from handrail.config import from_dict

    with pytest.raises(ConfigError, match="target_error"):
        from_dict(ControlConfig, {"disabled_stages": ["target_eror"]}, "control")
    with pytest.raises(ConfigError, match="2 mm thick"):
        ControlConfig(keep_out=((0.1, 0.1, 0.1, 0.1, 0.2, 0.2),))
    with pytest.raises(ConfigError, match="rising"):
        ControlConfig(stiffness_range=(300.0, 100.0))


def test_the_count_of_what_was_lent_leaks_by_the_tick():
    state, measurement = initial_state(PARAMS), rest()
    state[STATE.loan_in_window] = 0.5
    measurement[MEAS.wrench] = 7.0
    after, _ = step(PARAMS, state, measurement, empty_command_buffer())
    leak = CONFIG.human_energy_loan * CONFIG.dt / CONFIG.human_loan_window
    assert 0.5 - after[STATE.loan_in_window] == pytest.approx(leak)
    measurement[MEAS.elapsed] = 4.0
    after, _ = step(PARAMS, state, measurement, empty_command_buffer())
    assert 0.5 - after[STATE.loan_in_window] == pytest.approx(4.0 * leak)


def test_the_damping_ratio_of_a_request_and_of_a_reflex_takes_effect():
    command_buffer = empty_command_buffer()
    command_buffer[CMD.seq], command_buffer[CMD.damping_ratio] = 0, 1.2
    state = initial_state(PARAMS)
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    for _ in range(20):
        state, _ = step(PARAMS, state, rest(), command_buffer)
    assert state[STATE.damping_ratio] == 1.2
    torque = np.empty(7)
    for _ in range(20):
        advance(PARAMS, state, rest(), command_buffer, alarm(), torque)
    assert state[STATE.damping_ratio] == CONFIG.reflex_damping_ratio


def test_in_a_fault_joints_are_damped_and_torque_falls_within_its_rate():
    state, measurement = initial_state(PARAMS), rest()
    dq = np.array([0.2, -0.1, 0.3, -0.2, 0.1, -0.3, 0.2])
    measurement[MEAS.dq : MEAS.dq + 7] = dq
    measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7] = (
        -4.0 * CONFIG.joint_damping * dq
    )
    state[STATE.mode] = Mode.FAULT
    _, torque = step(PARAMS, state, measurement, empty_command_buffer())
    np.testing.assert_allclose(torque, -4.0 * CONFIG.joint_damping * dq)
    measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7] = 5.0
    after, torque = step(PARAMS, state, measurement, empty_command_buffer())
    np.testing.assert_allclose(torque, 5.0 - CONFIG.torque_rate)
    assert after[STATE.tick] == after[STATE.ticks] == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 6.0))
def test_eigenvectors_of_any_symmetric_matrix(seed, spread):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = 10.0 ** rng.uniform(-spread, spread, 6)
    matrix = (q * values) @ q.T
    matrix = 0.5 * (matrix + matrix.T)
    work, vectors = matrix.copy(), np.empty((6, 6))
    symmetric_eigen(work, vectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(6), atol=1e-12)
    rebuilt = (vectors * np.diag(work)) @ vectors.T
    np.testing.assert_allclose(rebuilt, matrix, atol=1e-10 * np.abs(matrix).max())
    assert math.isclose(np.trace(work), np.trace(matrix), rel_tol=1e-9)


def test_the_tick_in_place_takes_a_critic():
    state, torque = initial_state(PARAMS), np.empty(7)
    advance(PARAMS, state, rest(), empty_command_buffer(), alarm(), torque)
    assert state[STATE.risk] > 0.9
    assert state[STATE.reflex_ticks] == 1.0
    assert state[STATE.stiffness_cap] == PARAMS[PARAM.reflex_stiffness]
