"""Stages of the chain, one by one: authority, keep-out, contact, reflex, observer, switches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.authority import forget_credit, hand_over
from controllers.chain import advance, initial_state, step
from controllers.config import STAGES, ControlConfig
from controllers.gate import gate
from controllers.impedance import spring
from controllers.joints import barrier, brake
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW, READY, forward
from controllers.layout import ON, READING_SIZE, M, P, R, S, empty_mailbox, pack_params
from controllers.leash import bound_leash
from controllers.limits import bound_target
from controllers.observer import brake_excess
from controllers.reflex import feel_bias, react
from controllers.request import take_request
from controllers.robot import Fault, Mode, Request, Source
from controllers.rotation import between, exp, multiply
from controllers.speed import bound_speed, feel_contact, speed_limit
from controllers.symmetric import eigen
from controllers.validity import judge_state
from controllers.watchdog import hold, watch
from handrail.critic import Critic, Layer, pack_critic
from handrail.errors import ConfigError
from robot_env.robots.mujoco import MujocoConfig, MujocoRobot
from robot_env.robots.panda import scene

CONFIG = ControlConfig()
PARAMS = pack_params(CONFIG, 10.0)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.5, 0.0, 0.3])


def rest() -> np.ndarray:
    reading = np.zeros(READING_SIZE)
    reading[R.q : R.q + 7], reading[R.elapsed] = READY, 1.0
    reading[R.mass : R.mass + 49] = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
    return reading


def arm(control: ControlConfig = CONFIG, objects: str = "") -> MujocoRobot:
    robot = MujocoRobot(scene(objects, gripper=False), MujocoConfig(), control, 10.0)
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(1))
    return robot


def alarm(sign: float = 1.0) -> np.ndarray:
    """Return a critic whose risk is near 1 (or near 0) whatever it sees."""
    layer = Layer(np.zeros((1, 22, 1), np.float32), np.full((1, 1), 6.0 * sign, np.float32))
    zero, one = np.zeros(22, np.float32), np.ones(22, np.float32)
    hidden = Layer(np.zeros((1, 22, 4), np.float32), np.zeros((1, 4), np.float32))
    out = Layer(np.zeros((1, 4, 1), np.float32), layer.bias)
    return pack_critic(Critic(1, zero, one, (hidden, out), 0.3, 0.15))


# ---- validity and requests --------------------------------------------------------------------


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_move_as_fast_as_it_can_and_no_faster(joint):
    for share, fault in ((1.4, 0), (-1.4, 0), (1.6, Fault.STATE_JUMP), (-1.6, Fault.STATE_JUMP)):
        state, reading = initial_state(PARAMS), rest()
        reading[R.q + joint] += share * DQ_MAX[joint] * CONFIG.dt
        assert judge_state(PARAMS, state, reading) == fault
        reading[R.elapsed] = 3.0  # after two lost states it may have gone farther
        reading[R.q + joint] = READY[joint] + 3.0 * share * DQ_MAX[joint] * CONFIG.dt
        assert judge_state(PARAMS, state, reading) == fault


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_be_as_far_beyond_its_range_as_encoders_err(joint):
    for limit, sign in ((Q_LOW, -1.0), (Q_HIGH, 1.0)):
        for beyond, fault in ((0.009, 0), (0.011, Fault.JOINT_LIMIT)):
            state, reading = initial_state(PARAMS), rest()
            reading[R.q + joint] = state[S.q + joint] = limit[joint] + sign * beyond
            assert judge_state(PARAMS, state, reading) == fault


@pytest.mark.parametrize(
    ("asked", "given"),
    [(-0.02, 0.0), (0.0, 0.0), (0.03, 0.03), (0.08, 0.08), (0.2, 0.08)],
)
def test_the_gripper_is_asked_for_no_more_than_it_can(asked, given):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq], mailbox[M.gripper] = 0, asked
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    take_request(PARAMS, state, mailbox)
    assert state[S.gripper] == given


@pytest.mark.parametrize(
    ("asked", "given"), [(0.0, 0.8), (0.1, 0.3), (0.3, 0.3), (1.0, 1.0), (1.5, 1.5), (9.0, 1.5)]
)
def test_a_request_sets_the_damping_ratio_within_its_range(asked, given):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq], mailbox[M.ratio] = 0, asked
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.stiffness : M.stiffness + 4] = [1.0, 777.0, 1e9, 9999.0]
    take_request(PARAMS, state, mailbox)
    assert state[S.asked : S.asked + 5].tolist() == [50.0, 777.0, 3000.0, 150.0, given]


@pytest.mark.parametrize("length", [0.0, 0.998, 1.002, 2.0, np.nan])
def test_a_quaternion_that_is_none_is_refused(length):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq] = 0
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.pose + 3 : M.pose + 7] *= length
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 1.0
    assert state[S.mode] == Mode.HOLDING
    mailbox[M.seq] = 1
    mailbox[M.pose + 3 : M.pose + 7] = [0.9995, 0.0, 0.0, 0.0]
    take_request(PARAMS, state, mailbox)
    assert state[S.mode] == Mode.FOLLOWING
    assert np.linalg.norm(state[S.goal + 3 : S.goal + 7]) == pytest.approx(1.0)


def test_a_request_from_far_away_or_from_yesterday_is_refused():
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq] = 5
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.pose] = 10.1
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 1.0
    mailbox[M.seq], mailbox[M.pose] = 6, 0.5
    take_request(PARAMS, state, mailbox)
    assert state[S.seq] == 6.0
    mailbox[M.seq] = 4
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 2.0
    assert state[S.seq] == 6.0


# ---- authority --------------------------------------------------------------------------------


def test_a_person_is_lent_energy_and_gives_the_rest_back():
    state = initial_state(PARAMS)
    state[S.tank] = 0.5
    assert hand_over(PARAMS, state, float(Source.HUMAN))
    assert state[S.tank] == pytest.approx(0.5 + CONFIG.human_credit)
    assert state[S.mode] == Mode.HUMAN
    state[S.tank] -= 0.4  # the person spends some
    assert hand_over(PARAMS, state, float(Source.POLICY))
    assert state[S.tank] == pytest.approx(max(CONFIG.tank_min, 0.1))
    assert state[S.mode] == Mode.FOLLOWING


def test_a_loan_is_taken_back_once():
    state = initial_state(PARAMS)
    state[S.tank] = 0.5
    for source in (Source.HUMAN, Source.POLICY):
        hand_over(PARAMS, state, float(source))
    assert state[S.lent] == 0.0
    state[S.tank] = 1.5
    state[S.source] = float(Source.HUMAN)  # nothing was lent this time
    hand_over(PARAMS, state, float(Source.POLICY))
    assert state[S.tank] == 1.5


def test_a_loan_goes_back_when_the_person_falls_silent():
    state = initial_state(PARAMS)
    state[S.tank] = 0.5
    hand_over(PARAMS, state, float(Source.HUMAN))
    hold(PARAMS, state)
    assert state[S.tank] == pytest.approx(0.5)
    assert state[S.source] == -1.0


# ---- holding ----------------------------------------------------------------------------------


def test_holding_draws_the_target_to_a_quarter_of_the_clip():
    state = initial_state(PARAMS)
    state[S.target : S.target + 3] += [0.015, -0.001, -0.02]
    state[S.goal : S.goal + 3] += [0.3, 0.3, 0.3]
    pull = state[S.target : S.target + 3] - state[S.pose : S.pose + 3]
    hold(PARAMS, state)
    quarter = 0.25 * CONFIG.clip
    drawn = state[S.goal : S.goal + 3] - state[S.pose : S.pose + 3]
    np.testing.assert_allclose(drawn, np.clip(pull, -quarter, quarter))
    assert (state[S.start : S.start + 7] == state[S.goal : S.goal + 7]).all()


@pytest.mark.parametrize(
    ("stale", "share"), [(0.0, 1.0), (0.3, 1.0), (0.65, 0.55), (0.9, 0.229), (1.0, 0.1)]
)
def test_stiffness_ramps_down_from_the_hold_to_the_soft_stop(stale, share):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    state[S.stale] = stale / CONFIG.dt
    assert watch(PARAMS, state, rest(), mailbox) == pytest.approx(share, abs=1e-3)


# ---- leash ------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_the_leash_holds_a_turned_target_at_its_length_and_not_before(way):
    pose = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
    turned = multiply(exp(way), (1.0, 0.0, 0.0, 0.0))
    wanted = np.array([0.5, 0.0, 0.3, *turned])
    bound_leash(PARAMS, pose, wanted)
    limit = CONFIG.leash * CONFIG.rotational_clip
    angle = np.linalg.norm(between(tuple(pose[3:]), tuple(wanted[3:])))
    assert angle == pytest.approx(min(limit, np.linalg.norm(way)), abs=1e-9)


# ---- authority, over time ---------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=5, max_size=120), st.floats(0.0, 1.0))
def test_flickering_between_person_and_policy_fills_no_tank(waits, spent):
    state = initial_state(PARAMS)
    state[S.tank] = CONFIG.tank_min
    lent, ticks, source = 0.0, 0, float(Source.POLICY)
    for wait in waits:
        source = 1.0 - source
        before = state[S.tank]
        hand_over(PARAMS, state, source)
        lent += max(0.0, state[S.tank] - before)
        state[S.tank] -= spent * (state[S.tank] - CONFIG.tank_min)
        for _ in range(wait):
            forget_credit(PARAMS, state, 1.0)
        ticks += wait
    windows = 1.0 + ticks * CONFIG.dt / CONFIG.human_window
    assert lent <= CONFIG.human_credit * windows + 1e-9
    assert state[S.tank] <= CONFIG.tank_max


def test_a_stop_outranks_a_person():
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq], mailbox[M.source] = 0, float(Source.HUMAN)
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    state, _ = step(PARAMS, state, rest(), mailbox)
    assert state[S.mode] == Mode.HUMAN
    mailbox[M.stop] = float(Fault.COMMANDED)
    state, _ = step(PARAMS, state, rest(), mailbox)
    assert state[S.mode] == Mode.SOFT_STOP
    assert state[S.fault] == Fault.COMMANDED
    mailbox[M.seq] = 1
    state, _ = step(PARAMS, state, rest(), mailbox)
    assert state[S.mode] == Mode.SOFT_STOP


# ---- keep-out and contact speed ---------------------------------------------------------------


BOXES = ((0.45, -0.1, 0.1, 0.55, 0.1, 0.3), (0.45, 0.1, 0.1, 0.46, 0.3, 0.3))
places = st.tuples(st.floats(0.3, 0.7), st.floats(-0.3, 0.4), st.floats(0.05, 0.4)).map(np.array)


@settings(max_examples=100, deadline=None)
@given(places, st.lists(places, min_size=1, max_size=4), st.floats(0.05, 0.25))
def test_the_target_never_enters_a_keep_out_box(begin, goals, speed):
    params = pack_params(ControlConfig(keep_out=BOXES), 10.0)

    def inside(point) -> bool:
        boxes = np.array(BOXES).reshape(-1, 2, 3)
        return bool(((boxes[:, 0] < point) & (point < boxes[:, 1])).all(1).any())

    target = np.array([*begin, 1.0, 0.0, 0.0, 0.0])
    if inside(begin):
        return
    for goal in goals:
        for _ in range(600):
            wanted = np.array([*goal, 1.0, 0.0, 0.0, 0.0])
            bound_target(params, target.copy(), target, speed, wanted)
            assert not inside(wanted[:3])
            assert np.linalg.norm(wanted[:3] - target[:3]) <= speed * CONFIG.dt + 1e-9
            target = wanted


def test_the_target_is_slow_in_the_contact_zone_and_after_a_touch():
    config = ControlConfig(
        contact_low=(0.0, -1.0, 0.0), contact_high=(0.2, 1.0, 1.0), contact_speed=0.08
    )
    params = pack_params(config, 10.0)
    state, reading = initial_state(params), rest()
    assert speed_limit(params, state) == config.max_speed
    reading[R.wrench + 1] = config.contact_force + 0.1
    feel_contact(params, state, reading)
    assert speed_limit(params, state) == config.contact_speed
    reading[R.wrench + 1] = 0.0
    for _ in range(round(config.contact_time / config.dt)):
        assert speed_limit(params, state) == config.contact_speed
        feel_contact(params, state, reading)
    assert speed_limit(params, state) == config.max_speed
    state[S.pose] = 0.1
    assert speed_limit(params, state) == config.contact_speed
    off = pack_params(ControlConfig(off=("contact",), contact_speed=0.08), 10.0)
    state[S.touched] = 0.0
    assert speed_limit(off, state) == config.max_speed


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.floats(-0.02, 0.02)] * 3), st.tuples(*[st.floats(-0.1, 0.1)] * 3))
def test_the_target_moves_as_fast_as_it_may_and_no_slower(way, turn_by):
    previous = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
    aim = multiply(exp(turn_by), (1.0, 0.0, 0.0, 0.0))
    wanted = np.array([*(previous[:3] + way), *aim])
    bound_speed(PARAMS, 0.1, previous, wanted)
    moved = np.linalg.norm(wanted[:3] - previous[:3])
    assert moved == pytest.approx(min(0.1e-3, float(np.linalg.norm(way))), abs=1e-12)
    angle = np.linalg.norm(between(tuple(previous[3:]), tuple(wanted[3:])))
    assert angle == pytest.approx(min(1e-3, float(np.linalg.norm(turn_by))), abs=1e-9)


# ---- stiffness in the action ------------------------------------------------------------------


def test_a_request_sets_stiffness_and_nought_asks_for_the_configs():
    robot = arm()
    snapshot = robot.snapshot()
    soft = Request(0, 0, snapshot.position, DOWN, 0.0, (300.0, 400.0, 9e9, 1.0), 1.0)
    snapshot = robot.run(soft, 100)
    np.testing.assert_allclose(snapshot.stiffness, [300.0, 400.0, 3000.0, 5.0])
    snapshot = robot.run(Request(1, 0, snapshot.position, DOWN, 0.0), 100)
    np.testing.assert_allclose(snapshot.stiffness, [1500.0, 1500.0, 1500.0, 80.0])


def test_stiffening_a_stretched_spring_is_paid_for():
    robot = arm(ControlConfig(refill=0.0))
    snapshot = robot.snapshot()
    ahead = snapshot.position + np.array([0.0, 0.0, 0.012])
    for seq in range(4):
        snapshot = robot.run(Request(seq, 0, ahead, DOWN, 0.0, (100.0,) * 3 + (80.0,)), 100)
    stretch = abs(snapshot.target_position[2] - snapshot.position[2])
    before = snapshot.energy_injected
    snapshot = robot.run(Request(9, 0, ahead, DOWN, 0.0, (100.0, 100.0, 3000.0, 80.0)), 100)
    assert stretch > 0.002
    assert snapshot.energy_injected - before > 0.5 * 0.5 * 2900.0 * stretch**2


# ---- gate -------------------------------------------------------------------------------------


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


# ---- reflex -----------------------------------------------------------------------------------


def pressed(params: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return state, reading, target and stiffness of an arm that pushes down with 12 N."""
    state, reading = initial_state(params), rest()
    state[S.target + 2] = state[S.pose + 2] - 0.010
    state[S.seq], state[S.risk] = 3.0, 0.9
    reading[R.wrench + 2] = 12.0
    wanted = state[S.target : S.target + 7].copy()
    return state, reading, wanted, state[S.asked : S.asked + 4].copy()


def test_the_reflex_draws_back_and_softens_in_the_same_tick():
    state, reading, wanted, stiffness = pressed(PARAMS)
    here = state[S.pose + 2]
    assert not react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness)
    assert (stiffness[:3] == CONFIG.reflex_stiffness).all()
    assert wanted[2] - here == pytest.approx(-0.003 + CONFIG.reflex_retreat)
    assert state[S.reflex] == 1.0


def test_the_reflex_lasts_has_hysteresis_and_lets_stiffness_back_on_a_ramp():
    state, reading, _, _ = pressed(PARAMS)
    trail = []
    for k in range(1600):
        wanted = state[S.target : S.target + 7].copy()
        stiffness = state[S.asked : S.asked + 4].copy()
        state[S.risk] = 0.9 if k < 300 else 0.2 if k < 400 else 0.1
        react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness)
        trail.append((state[S.reflex], stiffness[0]))
    active = [bool(on) for on, _ in trail]
    assert all(active[:400])  # 0.2 is below `on` but not below `off`
    assert not any(active[401:])
    soft = np.array([k for _, k in trail])
    assert soft[399] == CONFIG.reflex_stiffness
    assert np.diff(soft[401:]).max() <= CONFIG.reflex_ramp * CONFIG.dt + 1e-9
    assert soft[-1] == CONFIG.stiffness[0]


def test_a_short_alarm_still_gives_a_whole_reflex():
    state, reading, wanted, stiffness = pressed(PARAMS)
    ticks = 0
    for _ in range(1000):
        react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness)
        state[S.risk] = 0.0
        ticks += int(state[S.reflex])
    assert ticks == pytest.approx(CONFIG.reflex_time / CONFIG.dt, abs=2)


def test_the_third_reflex_in_a_row_stops_the_arm():
    state, reading, wanted, stiffness = pressed(PARAMS)
    latched = []
    for k in range(2400):
        state[S.risk] = 0.9 if k % 600 < 10 else 0.0
        latched.append(react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness))
    assert latched.index(True) == 1200
    state, reading, wanted, stiffness = pressed(PARAMS)
    for k in range(9000):  # far apart they don't add up
        state[S.risk] = 0.9 if k % 2500 < 10 else 0.0
        assert not react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.floats(-0.02, 0.02)] * 3),
    st.tuples(*[st.floats(-40.0, 40.0)] * 3),
    st.floats(50.0, 3000.0),
)
def test_the_reflex_only_lowers_the_springs_energy_and_stiffness(offset, force, stiff):
    state, reading = initial_state(PARAMS), rest()
    state[S.stiffness : S.stiffness + 3] = stiff
    state[S.target : S.target + 3] += offset
    state[S.risk] = 0.9
    reading[R.wrench : R.wrench + 3] = force
    wanted = state[S.target : S.target + 7].copy()
    held = state[S.stiffness : S.stiffness + 4].copy()
    stiffness = held.copy()
    pose, target = state[S.pose : S.pose + 7], state[S.target : S.target + 7].copy()
    react(PARAMS, state, reading, 0.3, 0.15, wanted, stiffness)
    assert (stiffness <= held).all()
    before = spring(PARAMS, held, pose, target, np.empty(6))
    assert spring(PARAMS, stiffness, pose, wanted, np.empty(6)) <= before + 1e-12


def test_the_reflex_still_carries_what_hangs_on_the_hand():
    state, reading = initial_state(PARAMS), rest()
    reading[R.wrench + 2] = -5.0  # half a kilogram that nobody compensates
    for _ in range(1000):
        feel_bias(state, reading)
    assert state[S.bias] == pytest.approx(5.0, rel=0.01)
    state[S.risk] = 0.9
    stiffness = state[S.asked : S.asked + 4].copy()
    react(PARAMS, state, reading, 0.3, 0.15, state[S.target : S.target + 7].copy(), stiffness)
    assert stiffness[2] * CONFIG.clip >= 2.0 * 5.0 * 0.99


def test_a_critic_that_cries_wolf_stops_the_arm_and_a_quiet_one_changes_no_bit():
    control = ControlConfig(reflex_latch=1)
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


# ---- observer and switches --------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7),
    st.floats(-1.0, 3.0),
    st.lists(st.floats(-20.0, 20.0), min_size=7, max_size=7),
)
def test_the_observer_only_brakes_and_only_what_is_too_much(share, audit, torque):
    state, reading = initial_state(PARAMS), rest()
    reading[R.dq : R.dq + 7] = np.array(share) * DQ_MAX
    state[S.audit] = audit
    before, after = np.array(torque), np.array(torque)
    acted = brake_excess(PARAMS, state, reading, after)
    dq = reading[R.dq : R.dq + 7]
    if audit <= CONFIG.tank_max - CONFIG.tank_min:
        assert not acted
    assert acted == bool((before != after).any())
    assert (after - before) @ dq <= 1e-12
    slack = CONFIG.observer_damping * np.abs(dq).max() + 1e-9
    assert np.abs(after - before).max() <= slack


@pytest.mark.parametrize("excess", [-0.1, 0.0, 1e-4, 1e-3, 10.0])
def test_the_observer_brakes_by_what_is_too_much_up_to_its_damping(excess):
    state, reading = initial_state(PARAMS), rest()
    reading[R.dq : R.dq + 7] = dq = np.linspace(-0.3, 0.5, 7)
    state[S.audit] = CONFIG.tank_max - CONFIG.tank_min + excess
    torque = np.zeros(7)
    brake_excess(PARAMS, state, reading, torque)
    alpha = min(max(0.0, excess) / (CONFIG.dt * float(dq @ dq)), CONFIG.observer_damping)
    np.testing.assert_allclose(torque, -alpha * dq, atol=1e-9)


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_is_braked_from_a_share_of_its_top_speed_on(joint):
    top, share, damping = DQ_MAX[joint], 0.8, 20.0
    for dq in (0.0, 0.79 * top, 0.9 * top, 1.1 * top):
        expected = -damping * max(0.0, dq - share * top)
        assert brake(dq, joint, share, damping) == pytest.approx(expected)
        assert brake(-dq, joint, share, damping) == pytest.approx(-expected)


@pytest.mark.parametrize(("q", "push"), [(0.0, 0.0), (0.91, -0.8), (1.0, -8.0), (-0.95, 4.0)])
def test_the_barrier_is_the_slope_of_its_potential(q, push):
    torque, energy = barrier(q, -1.0, 1.0, 0.1, 80.0)
    assert torque == pytest.approx(push)
    assert energy == pytest.approx(0.5 * push**2 / 80.0)


def test_every_stage_has_its_switch_and_all_are_on():
    assert all(PARAMS[at] == 1.0 for at in ON)
    for stage in STAGES:
        params = pack_params(ControlConfig(off=(stage,)), 10.0)
        assert [name for name, at in ON._asdict().items() if params[at] == 0.0] == [stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_off_changes_what_the_chain_does(stage):
    """Each stage is provoked; without it the run must come out differently."""
    wall = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3" solref="-100000 -200"/>'

    tables = {
        "energy": {"tank_start": 0.06},
        "observer": {"tank_start": 0.06, "tank_max": 0.06, "refill": 0.0},
        "keep_out": {"keep_out": ((0.2, 0.003, 0.0, 0.9, 0.4, 0.9),)},
        "box": {"box_high": (0.75, 0.45, 0.305)},
    }
    unguarded = ("energy", "torque", "leash") if stage == "observer" else ()

    def run(off: tuple) -> np.ndarray:
        table = tables.get(stage, {})
        control = ControlConfig(off=(*unguarded, *off), force_limit=1e4, **table)
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

    with pytest.raises(ConfigError, match="leash"):
        from_dict(ControlConfig, {"off": ["leach"]}, "control")
    with pytest.raises(ConfigError, match="2 mm thick"):
        ControlConfig(keep_out=((0.1, 0.1, 0.1, 0.1, 0.2, 0.2),))
    with pytest.raises(ConfigError, match="rising"):
        ControlConfig(stiffness_range=(300.0, 100.0))


# ---- the tick as a whole ----------------------------------------------------------------------


def test_the_count_of_what_was_lent_leaks_by_the_tick():
    state, reading = initial_state(PARAMS), rest()
    state[S.credit] = 0.5
    reading[R.wrench] = 7.0
    after, _ = step(PARAMS, state, reading, empty_mailbox())
    leak = CONFIG.human_credit * CONFIG.dt / CONFIG.human_window
    assert 0.5 - after[S.credit] == pytest.approx(leak)
    reading[R.elapsed] = 4.0
    after, _ = step(PARAMS, state, reading, empty_mailbox())
    assert 0.5 - after[S.credit] == pytest.approx(4.0 * leak)


def test_the_damping_ratio_of_a_request_and_of_a_reflex_takes_effect():
    mailbox = empty_mailbox()
    mailbox[M.seq], mailbox[M.ratio] = 0, 1.2
    state = initial_state(PARAMS)
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    for _ in range(20):
        state, _ = step(PARAMS, state, rest(), mailbox)
    assert state[S.ratio] == 1.2
    torque = np.empty(7)
    for _ in range(20):
        advance(PARAMS, state, rest(), mailbox, alarm(), torque)
    assert state[S.ratio] == CONFIG.reflex_damping_ratio


def test_in_a_fault_joints_are_damped_and_torque_falls_within_its_rate():
    state, reading = initial_state(PARAMS), rest()
    dq = np.array([0.2, -0.1, 0.3, -0.2, 0.1, -0.3, 0.2])
    reading[R.dq : R.dq + 7] = dq
    reading[R.held : R.held + 7] = -4.0 * CONFIG.joint_damping * dq
    state[S.mode] = Mode.FAULT
    _, torque = step(PARAMS, state, reading, empty_mailbox())
    np.testing.assert_allclose(torque, -4.0 * CONFIG.joint_damping * dq)
    reading[R.held : R.held + 7] = 5.0
    after, torque = step(PARAMS, state, reading, empty_mailbox())
    np.testing.assert_allclose(torque, 5.0 - CONFIG.torque_rate)
    assert after[S.tick] == after[S.ticks] == 1.0


# ---- eigenvectors -----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 6.0))
def test_eigenvectors_of_any_symmetric_matrix(seed, spread):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = 10.0 ** rng.uniform(-spread, spread, 6)
    matrix = (q * values) @ q.T
    matrix = 0.5 * (matrix + matrix.T)
    work, vectors = matrix.copy(), np.empty((6, 6))
    eigen(work, vectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(6), atol=1e-12)
    rebuilt = (vectors * np.diag(work)) @ vectors.T
    np.testing.assert_allclose(rebuilt, matrix, atol=1e-10 * np.abs(matrix).max())
    assert math.isclose(np.trace(work), np.trace(matrix), rel_tol=1e-9)


def test_the_tick_in_place_takes_a_critic():
    state, torque = initial_state(PARAMS), np.empty(7)
    advance(PARAMS, state, rest(), empty_mailbox(), alarm(), torque)
    assert state[S.risk] > 0.9
    assert state[S.reflex_ticks] == 1.0
    assert state[S.ceiling] == PARAMS[P.reflex_stiffness]
