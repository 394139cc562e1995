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
from controllers.packed import MEAS, STATE, STATE_SIZE, empty_command_buffer
from controllers.robot import SNAPSHOT_SIZE, Mode, Request, Snapshot


def test_step_leaves_the_old_state_valid():
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    before = state.copy()
    after, torque = step(PARAMS, state, rest(), command_buffer)
    assert (state == before).all()
    assert after[STATE.tick] == 1.0
    again = state.copy()
    other = np.empty(7)
    advance(PARAMS, again, rest(), command_buffer, NO_CRITIC, other)
    assert (again == after).all()
    assert (other == torque).all()


def test_an_arm_at_rest_on_its_target_gets_no_torque():
    state, torque = step(PARAMS, initial_state(PARAMS), rest(), empty_command_buffer())
    assert np.abs(torque).max() < 1e-9
    assert state[STATE.mode] == Mode.HOLDING


@pytest.mark.slow
def test_the_uncompiled_chain_gives_the_compiled_ones_torques():
    code = """
import numpy as np
from controllers.chain import initial_state, step
from controllers.config import ControlConfig
from controllers.packed import *
from controllers.kinematics import READY
params, rng = pack_params(ControlConfig(), 10.0), np.random.default_rng(0)
state, command = initial_state(params), empty_command_buffer()
measurement = np.zeros(MEASUREMENT_SIZE)
measurement[MEAS.q : MEAS.q + 7], measurement[MEAS.elapsed] = READY, 1.0
mass = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49] = mass
command[CMD.seq], command[CMD.pose : CMD.pose + 4] = 1, [0.35, 0.05, 0.45, 1.0]
command[CMD.pose + 6], command[CMD.stiffness], command[CMD.damping_ratio] = 0.0, 900.0, 0.6
for _ in range(60):
    measurement[MEAS.dq : MEAS.dq + 7] = rng.uniform(-0.4, 0.4, 7)
    measurement[MEAS.q : MEAS.q + 7] += 1e-3 * measurement[MEAS.dq : MEAS.dq + 7]
    state, torque = step(params, state, measurement, command)
    measurement[MEAS.applied_torque : MEAS.applied_torque + 7] = torque
    measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7] = torque
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
    "source",
    ["controllers/target_limits.py", "controllers/deeper/limits.py", "robot_env/arms/a/b.py"],
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
    state, measurement, command_buffer = initial_state(PARAMS), rest(), empty_command_buffer()
    state[STATE.mode] = mode
    for _ in range(200):
        measurement[MEAS.q : MEAS.q + 7] += 0.5e-3
        measurement[MEAS.dq : MEAS.dq + 7] = 0.5
        state, torque = step(PARAMS, state, measurement, command_buffer)
        measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7] = torque
    assert (state[STATE.mode], state[STATE.fault]) == (mode, 0)
    np.testing.assert_array_equal(state[STATE.q : STATE.q + 7], measurement[MEAS.q : MEAS.q + 7])
