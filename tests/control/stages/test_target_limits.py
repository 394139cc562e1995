"""Where the target may be and how fast it may move, stage by stage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, PARAMS, rest

from controllers.chain import initial_state
from controllers.config import ControlConfig
from controllers.packed import MEAS, STATE, pack_params
from controllers.rotation import between, exp, multiply
from controllers.speed import bound_speed, detect_contact, target_speed_limit
from controllers.target_error_clamp import clamp_target_error
from controllers.target_limits import bound_target
from controllers.workspace import keep_out


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_the_leash_holds_a_turned_target_at_its_length_and_not_before(way):
    pose = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
    turned = multiply(exp(way), (1.0, 0.0, 0.0, 0.0))
    wanted = np.array([0.5, 0.0, 0.3, *turned])
    clamp_target_error(PARAMS, pose, wanted)
    limit = CONFIG.target_error_ratio * CONFIG.max_rotational_stretch
    angle = np.linalg.norm(between(tuple(pose[3:]), tuple(wanted[3:])))
    assert angle == pytest.approx(min(limit, np.linalg.norm(way)), abs=1e-9)


BOXES = ((0.45, -0.1, 0.1, 0.55, 0.1, 0.3), (0.45, 0.1, 0.1, 0.46, 0.3, 0.3))
places = st.tuples(st.floats(0.3, 0.7), st.floats(-0.3, 0.4), st.floats(0.05, 0.4)).map(np.array)


@pytest.mark.slow
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
    state, measurement = initial_state(params), rest()
    assert target_speed_limit(params, state) == config.max_speed
    measurement[MEAS.wrench + 1] = config.contact_force_threshold + 0.1
    detect_contact(params, state, measurement)
    assert target_speed_limit(params, state) == config.contact_speed
    measurement[MEAS.wrench + 1] = 0.0
    for _ in range(round(config.contact_time / config.dt)):
        assert target_speed_limit(params, state) == config.contact_speed
        detect_contact(params, state, measurement)
    assert target_speed_limit(params, state) == config.max_speed
    state[STATE.pose] = 0.1
    assert target_speed_limit(params, state) == config.contact_speed
    off = pack_params(ControlConfig(disabled_stages=("contact",), contact_speed=0.08), 10.0)
    state[STATE.ticks_since_contact] = 0.0
    assert target_speed_limit(off, state) == config.max_speed


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


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("high", [False, True])
def test_a_target_in_a_keep_out_box_goes_to_the_face_that_it_came_by(axis, high, nearest):
    low, top = np.array([0.3, -0.2, 0.1]), np.array([0.6, 0.1, 0.5])
    params = pack_params(ControlConfig(keep_out=((*low, *top),)), 10.0)
    wanted = np.r_[0.45, -0.05, 0.3, DOWN]
    previous = wanted.copy()  # inside already: out by the nearest face
    face = top[axis] if high else low[axis]
    outward = 1.0 if high else -1.0
    wanted[axis] = face - outward * (0.01 if nearest else 0.14)
    if not nearest:
        previous[axis] = face + outward * 0.02
    expected = wanted.copy()
    expected[axis] = face
    assert keep_out(params, previous, wanted)
    np.testing.assert_array_equal(wanted, expected)
