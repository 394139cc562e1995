"""The force on the tool at rest: learned before the first request, carried, and no touch."""

import numpy as np
import pytest
from made_chain import CONFIG, PARAMS, rest

from controllers.chain import initial_state
from controllers.force_bias import (
    SMOOTHING,
    contact_force,
    estimate_bias,
    min_stiffness_for_payload,
)
from controllers.packed import MEAS, PARAM, STATE
from controllers.speed import detect_contact

WEIGHT = np.array([0.3, -0.4, -5.0])  # [N], half a kilogram that nobody compensates, and bias


def hung(ticks: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    state, measurement = initial_state(PARAMS), rest()
    measurement[MEAS.wrench : MEAS.wrench + 3] = WEIGHT
    for _ in range(ticks):
        estimate_bias(state, measurement)
    return state, measurement


def test_the_force_at_rest_is_learned_with_its_direction():
    state, _ = hung()
    assert state[STATE.force_bias : STATE.force_bias + 3] == pytest.approx(WEIGHT, rel=1e-6)


def test_one_tick_is_no_more_than_a_share_of_it():
    state, _ = hung(1)
    assert state[STATE.force_bias : STATE.force_bias + 3] == pytest.approx(SMOOTHING * WEIGHT)


@pytest.mark.parametrize(("offset", "value"), [(STATE.seq, 0.0), (STATE.twist + 1, 0.02)])
def test_nothing_is_learned_after_the_first_request_or_in_motion(offset, value):
    state, measurement = initial_state(PARAMS), rest()
    state[offset], measurement[MEAS.wrench + 2] = value, -5.0
    estimate_bias(state, measurement)
    assert not state[STATE.force_bias : STATE.force_bias + 3].any()


def test_what_is_felt_is_what_comes_on_top():
    state, measurement = hung()
    measurement[MEAS.wrench : MEAS.wrench + 3] += [3.0, 4.0, 0.0]
    force = np.empty(3)
    assert contact_force(state, measurement, force) == pytest.approx(5.0)
    assert force == pytest.approx([3.0, 4.0, 0.0], abs=1e-6)


def test_a_payload_is_no_touch_and_a_touch_on_top_of_it_is():
    state, measurement = hung()
    assert np.linalg.norm(WEIGHT) > PARAMS[PARAM.contact_force_threshold]
    before = state[STATE.ticks_since_contact]
    detect_contact(PARAMS, state, measurement)
    assert state[STATE.ticks_since_contact] > before
    measurement[MEAS.wrench] += 1.5 * PARAMS[PARAM.contact_force_threshold]
    detect_contact(PARAMS, state, measurement)
    assert state[STATE.ticks_since_contact] == 0.0


def test_the_least_stiffness_carries_twice_the_force_within_the_clip():
    state, _ = hung()
    carried = min_stiffness_for_payload(PARAMS, state) * CONFIG.max_stretch
    assert carried == pytest.approx(2.0 * np.linalg.norm(WEIGHT), rel=1e-6)
