"""The force on the tool at rest: learned before the first request, carried, and no touch."""

import numpy as np
import pytest
from made_chain import CONFIG, PARAMS, rest

from controllers.bias import SMOOTHING, feel_bias, felt, least_stiffness
from controllers.chain import initial_state
from controllers.layout import P, R, S
from controllers.speed import feel_contact

WEIGHT = np.array([0.3, -0.4, -5.0])  # [N], half a kilogram that nobody compensates, and bias


def hung(ticks: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    state, reading = initial_state(PARAMS), rest()
    reading[R.wrench : R.wrench + 3] = WEIGHT
    for _ in range(ticks):
        feel_bias(state, reading)
    return state, reading


def test_the_force_at_rest_is_learned_with_its_direction():
    state, _ = hung()
    assert state[S.bias : S.bias + 3] == pytest.approx(WEIGHT, rel=1e-6)


def test_one_tick_is_no_more_than_a_share_of_it():
    state, _ = hung(1)
    assert state[S.bias : S.bias + 3] == pytest.approx(SMOOTHING * WEIGHT)


@pytest.mark.parametrize(("offset", "value"), [(S.seq, 0.0), (S.twist + 1, 0.02)])
def test_nothing_is_learned_after_the_first_request_or_in_motion(offset, value):
    state, reading = initial_state(PARAMS), rest()
    state[offset], reading[R.wrench + 2] = value, -5.0
    feel_bias(state, reading)
    assert not state[S.bias : S.bias + 3].any()


def test_what_is_felt_is_what_comes_on_top():
    state, reading = hung()
    reading[R.wrench : R.wrench + 3] += [3.0, 4.0, 0.0]
    force = np.empty(3)
    assert felt(state, reading, force) == pytest.approx(5.0)
    assert force == pytest.approx([3.0, 4.0, 0.0], abs=1e-6)


def test_a_payload_is_no_touch_and_a_touch_on_top_of_it_is():
    state, reading = hung()
    assert np.linalg.norm(WEIGHT) > PARAMS[P.contact_force]
    before = state[S.touched]
    feel_contact(PARAMS, state, reading)
    assert state[S.touched] > before
    reading[R.wrench] += 1.5 * PARAMS[P.contact_force]
    feel_contact(PARAMS, state, reading)
    assert state[S.touched] == 0.0


def test_the_least_stiffness_carries_twice_the_force_within_the_clip():
    state, _ = hung()
    carried = least_stiffness(PARAMS, state) * CONFIG.clip
    assert carried == pytest.approx(2.0 * np.linalg.norm(WEIGHT), rel=1e-6)
