"""Who has the arm: stop over person over policy; loans; holding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, PARAMS, rest

from controllers.authority import forget_credit, hand_over
from controllers.chain import initial_state, step
from controllers.layout import M, S, empty_mailbox
from controllers.robot import Fault, Mode, Source
from controllers.watchdog import hold, watch


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
