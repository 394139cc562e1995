"""Nothing gets past the limits: target, joints, torque."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.config import ControlConfig
from controllers.joint_limit_avoidance import limit_repulsion, overspeed_damping
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW, TORQUE_MAX
from controllers.packed import pack_params
from controllers.rotation import between, exp, multiply, z_axis
from controllers.target_limits import bound_target
from controllers.torque_limits import saturate_torque
from handrail.errors import ConfigError

CONFIG = ControlConfig(box_low=(0.3, -0.2, 0.05), box_high=(0.6, 0.2, 0.4))
PARAMS = pack_params(CONFIG, 10.0)
DOWN = (1.0, 0.0, 0.0, 0.0)

points = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)
turns = st.tuples(*[st.floats(-1.7, 1.7)] * 3)
anything = st.floats(allow_nan=True, allow_infinity=True)


def pose(point, turn) -> np.ndarray:
    return np.concatenate([point, multiply(exp(turn), DOWN)])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(between(tuple(a[3:]), tuple(b[3:]))))


@settings(max_examples=300, deadline=None)
@given(points, turns, points, turns)
def test_target_moves_no_faster_than_its_speed_limits(point, turn, goal, goal_turn):
    previous, wanted = pose(point, turn), pose(goal, goal_turn)
    bound_target(PARAMS, previous.copy(), previous, CONFIG.max_speed, wanted)
    travel = np.linalg.norm(wanted[:3] - previous[:3])
    assert travel <= CONFIG.max_speed * CONFIG.dt + 1e-12
    assert angle(previous, wanted) <= CONFIG.max_rotation_speed * CONFIG.dt + 1e-9


@settings(max_examples=50, deadline=None)
@given(points, turns, points, turns)
def test_target_settles_inside_box_leash_and_cone(point, turn, goal, goal_turn):
    here = pose(np.clip(point, CONFIG.box_low, CONFIG.box_high), (0.0, 0.0, 0.0))
    target = here.copy()
    for _ in range(800):
        wanted = pose(goal, goal_turn)
        bound_target(PARAMS, here, target, CONFIG.max_speed, wanted)
        target = wanted
        assert (target[:3] >= np.array(CONFIG.box_low) - 1e-12).all()
        assert (target[:3] <= np.array(CONFIG.box_high) + 1e-12).all()
    assert (
        np.abs(target[:3] - here[:3]).max()
        <= CONFIG.target_error_ratio * CONFIG.max_stretch + 1e-12
    )
    assert angle(here, target) <= CONFIG.target_error_ratio * CONFIG.max_rotational_stretch + 1e-9
    assert math.acos(min(1.0, -z_axis(tuple(target[3:]))[2])) <= CONFIG.max_tilt + 1e-6
    assert np.linalg.norm(target[3:]) == pytest.approx(1.0)


def test_a_target_within_all_limits_is_left_alone_bit_for_bit():
    here = pose(np.array([0.45, 0.0, 0.2]), (0.0, 0.0, 0.0))
    wanted = pose(np.array([0.4501, 0.0, 0.2]), (0.0, 0.0005, 0.0))
    before = wanted.copy()
    assert not bound_target(PARAMS, here, here, CONFIG.max_speed, wanted)
    assert (wanted == before).all()


@settings(max_examples=500, deadline=None)
@given(
    st.lists(anything, min_size=7, max_size=7), st.lists(st.floats(-1, 1), min_size=7, max_size=7)
)
def test_torque_and_its_step_are_bounded_for_any_wish_nan_included(wish, share):
    torque, held = np.array(wish), np.array(share) * TORQUE_MAX
    saturate_torque(torque, held, CONFIG.torque_rate)
    assert (np.abs(torque) <= TORQUE_MAX).all()
    assert (np.abs(torque - held) <= CONFIG.torque_rate + 1e-12).all()


def test_barriers_push_inward_only_and_are_the_gradient_of_their_potential():
    for joint in range(7):
        low, high = Q_LOW[joint], Q_HIGH[joint]
        for q in np.linspace(low, high, 400):
            push, energy = limit_repulsion(
                q, low, high, CONFIG.joint_margin, CONFIG.joint_repulsion
            )
            _, later = limit_repulsion(
                q + 1e-6, low, high, CONFIG.joint_margin, CONFIG.joint_repulsion
            )
            assert push == pytest.approx(-(later - energy) / 1e-6, abs=1e-3)
            if q - low > CONFIG.joint_margin and high - q > CONFIG.joint_margin:
                assert push == 0.0
            else:
                assert push * ((low + high) / 2 - q) >= 0.0


def test_brakes_act_only_on_joints_near_their_speed_limit_and_only_against_motion():
    for joint in range(7):
        for dq in np.linspace(-1.2, 1.2, 49) * DQ_MAX[joint]:
            torque = overspeed_damping(
                dq, DQ_MAX[joint], CONFIG.speed_share, CONFIG.overspeed_damping
            )
            assert torque * dq <= 0.0
            assert (torque == 0.0) == (abs(dq) <= CONFIG.speed_share * DQ_MAX[joint])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("torque_rate", 1.0),
        ("stiffness", (5000.0, 100.0, 100.0)),
        ("max_stretch", 0.0),
        ("tank_start", 3.0),
        ("box_low", (0.9, 0.0, 0.0)),
        ("hold_time", 2.0),
        ("dt", 0.01),
        ("target_error_ratio", 0.5),
        ("refill", float("nan")),
    ],
)
def test_a_config_that_is_not_safe_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field):
        ControlConfig(**{field: value})
