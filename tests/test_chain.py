"""The tick as a whole: pure, at rest at rest, and the same compiled or not."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_chain import PARAMS, rest

from controllers import kernel
from controllers.chain import NO_CRITIC, advance, initial_state, step
from controllers.layout import STATE_SIZE, R, S, empty_mailbox
from controllers.robot import SNAPSHOT_SIZE, Mode, Request, Snapshot


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


@pytest.mark.parametrize(
    "source", ["controllers/limits.py", "controllers/deeper/limits.py", "robot_env/robots/a/b.py"]
)
def test_compiled_code_of_another_version_is_never_met(source: str, tmp_path, monkeypatch):
    """numba itself looks only at the calling file: old limits could run inside a new chain."""
    monkeypatch.setattr(kernel, "_ROOT", tmp_path)
    for place in kernel.COMPILED:
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / source).write_text("RATE = 0.999\n")
    before = kernel.cache_folder()
    assert kernel.cache_folder() == before
    (tmp_path / source).write_text("RATE = 0.998\n")
    assert kernel.cache_folder() != before


def test_every_file_with_compiled_code_is_in_the_digest_of_the_compile_cache():
    digested = set(kernel.compiled_sources(*kernel.COMPILED))
    assert len(digested) > 40
    packages = ("actor", "controllers", "handrail", "learner", "rewards", "robot_env")
    for path in kernel.compiled_sources(*packages):
        text = path.read_text(encoding="utf-8")
        compiles = re.search(r"^\s*@(kernel|(numba\.)?n?jit|cfunc)\b", text, re.MULTILINE)
        if compiles and "jax" not in text:
            assert path in digested, f"{path} can be met in a stale cache: see kernel.COMPILED"


@pytest.mark.parametrize("mode", [Mode.IDLE, Mode.FAULT])
def test_an_arm_that_was_let_go_may_be_moved_by_hand(mode):
    state, reading, mailbox = initial_state(PARAMS), rest(), empty_mailbox()
    state[S.mode] = mode
    for _ in range(200):
        reading[R.q : R.q + 7] += 0.5e-3
        reading[R.dq : R.dq + 7] = 0.5
        state, torque = step(PARAMS, state, reading, mailbox)
        reading[R.held : R.held + 7] = torque
    assert (state[S.mode], state[S.fault]) == (mode, 0)
    np.testing.assert_array_equal(state[S.q : S.q + 7], reading[R.q : R.q + 7])
