"""The tick as a whole: limits that hold whatever comes in, and the same answer every time."""

import os
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import kernel
from controllers.chain import NO_CRITIC, ControlConfig, advance, initial_state, step
from controllers.kinematics import READY, TORQUE_MAX
from controllers.layout import READING_SIZE, STATE_SIZE, M, R, S, empty_mailbox, pack_params
from controllers.robot import SNAPSHOT_SIZE, Mode, Request, Snapshot

CONFIG = ControlConfig()
PARAMS = pack_params(CONFIG, 10.0)

number = st.floats(allow_nan=True, allow_infinity=True)
sane = st.floats(-0.5, 0.5)
gain = st.floats(0.0, 4000.0)
requests = st.lists(
    st.tuples(
        st.integers(-2, 50),
        st.integers(0, 2),
        st.one_of(
            st.lists(number, min_size=13, max_size=13),
            st.tuples(sane, sane, sane, st.lists(gain, min_size=5, max_size=5)).map(
                lambda p: [0.4 + p[0], p[1], 0.4 + p[2], 1.0, 0.0, 0.0, 0.0, *p[3], 0.04]
            ),
        ),
    ),
    min_size=1,
    max_size=12,
)


def rest() -> np.ndarray:
    reading = np.zeros(READING_SIZE)
    reading[R.q : R.q + 7], reading[R.elapsed] = READY, 1.0
    reading[R.mass : R.mass + 49] = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
    return reading


def rollout(sequence, seed: int, bad: float = 0.0, tick=step) -> list[np.ndarray]:
    """Return the torques while joints wander at random and requests come in."""
    rng = np.random.default_rng(seed)
    state, reading, mailbox = initial_state(PARAMS), rest(), empty_mailbox()
    torques = []
    for seq, source, values in sequence:
        mailbox[M.seq], mailbox[M.source] = seq, source
        mailbox[M.pose : M.gripper + 1] = values
        for _ in range(15):
            dq = rng.uniform(-0.4, 0.4, 7)
            reading[R.q : R.q + 7] += 1e-3 * dq
            reading[R.dq : R.dq + 7] = dq
            sent = reading.copy()
            if rng.random() < bad:
                sent[rng.integers(0, R.mass)] = rng.choice([np.nan, np.inf, 1e12])
            state, torque = tick(PARAMS, state, sent, mailbox)
            torques.append(torque)
            reading[R.acted : R.acted + 7] = reading[R.held : R.held + 7]
            reading[R.held : R.held + 7] = torque
    return torques


@settings(max_examples=100, deadline=None)
@given(requests, st.integers(0, 2**16), st.sampled_from([0.0, 0.01]))
def test_torque_and_its_rate_hold_for_any_request_and_any_reading(sequence, seed, bad):
    last = np.zeros(7)
    for torque in rollout(sequence, seed, bad):
        assert (np.abs(torque) <= TORQUE_MAX).all()
        if not bad:  # a made-up held torque has no rate to keep
            assert (np.abs(torque - last) <= CONFIG.torque_rate + 1e-9).all()
        last = torque


def test_the_same_readings_give_the_same_torques_bit_for_bit():
    gains = [300.0 * k for k in range(5)]
    sequence = [(k, 0, [0.4, 0.02 * k, 0.4, 1.0, 0.0, 0.0, 0.0, *gains, 0.04]) for k in range(8)]
    assert np.array_equal(rollout(sequence, 1), rollout(sequence, 1))


def test_step_leaves_the_old_state_valid():
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    before = state.copy()
    after, torque = step(PARAMS, state, rest(), mailbox)
    assert (state == before).all()
    assert after[S.tick] == 1.0
    again = state.copy()
    other = np.empty(7)
    advance(PARAMS, again, rest(), mailbox, NO_CRITIC, other)
    assert (again == after).all()
    assert (other == torque).all()


def test_an_arm_at_rest_on_its_target_gets_no_torque():
    state, torque = step(PARAMS, initial_state(PARAMS), rest(), empty_mailbox())
    assert np.abs(torque).max() < 1e-9
    assert state[S.mode] == Mode.HOLDING


def test_the_uncompiled_chain_gives_the_compiled_ones_torques():
    code = """
import numpy as np
from controllers.chain import ControlConfig, initial_state, step
from controllers.layout import *
from controllers.kinematics import READY
params, rng = pack_params(ControlConfig(), 10.0), np.random.default_rng(0)
state, mailbox, reading = initial_state(params), empty_mailbox(), np.zeros(READING_SIZE)
reading[R.q : R.q + 7], reading[R.elapsed] = READY, 1.0
reading[R.mass : R.mass + 49] = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
mailbox[M.seq], mailbox[M.pose : M.pose + 4] = 1, [0.35, 0.05, 0.45, 1.0]
mailbox[M.pose + 6], mailbox[M.stiffness], mailbox[M.ratio] = 0.0, 900.0, 0.6
for _ in range(60):
    reading[R.dq : R.dq + 7] = rng.uniform(-0.4, 0.4, 7)
    reading[R.q : R.q + 7] += 1e-3 * reading[R.dq : R.dq + 7]
    state, torque = step(params, state, reading, mailbox)
    reading[R.acted : R.acted + 7] = reading[R.held : R.held + 7] = torque
print(type(step).__name__, *torque)
"""
    outputs = []
    for plain in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": plain}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.split())
    assert outputs[1][0] == "function"
    assert outputs[0][0] != "function"
    compiled, plain = (np.array(out[1:], float) for out in outputs)
    assert np.abs(compiled).max() > 0.5
    np.testing.assert_allclose(plain, compiled, atol=1e-9)


@given(st.lists(st.floats(allow_nan=False), min_size=SNAPSHOT_SIZE, max_size=SNAPSHOT_SIZE))
def test_snapshots_and_requests_survive_their_flat_form(values):
    place, turn = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0])
    request = Request(3, 1, place, turn, 0.05, (100.0, 200.0, 300.0, 40.0), 0.7)
    assert str(Request.unpack(request.pack())) == str(request)
    snapshot = Snapshot(time=values[0], tick=7, mode=2, q=np.array(values[1:8]), tank=values[9])
    assert (Snapshot.unpack(snapshot.pack()).pack() == snapshot.pack()).all()


def test_states_are_finite_and_small():
    assert np.isfinite(initial_state(PARAMS)).all()
    assert STATE_SIZE < 256


def test_compiled_code_of_another_version_is_never_met(tmp_path, monkeypatch):
    """numba itself looks only at the calling file: old limits could run inside a new chain."""
    monkeypatch.setattr(kernel, "_ROOT", tmp_path)
    (tmp_path / "controllers").mkdir()
    source = tmp_path / "controllers" / "limits.py"
    source.write_text("RATE = 0.999\n")
    before = kernel.cache_folder()
    assert kernel.cache_folder() == before
    source.write_text("RATE = 0.998\n")
    assert kernel.cache_folder() != before
