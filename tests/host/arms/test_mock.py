"""What only the mock of a Franka can show: faults, foreign arms, the host without a robot."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from backends import (
    START,
    begin,
    go,
    make_mock,
)

from controllers.config import ControlConfig
from controllers.joint_limits import FR3
from controllers.packed import STATE
from controllers.robot import Fault, Mode, Snapshot
from handrail.errors import ConfigError, DeviceLost, Error, ProtocolMismatch
from handrail.run_folder import create_run
from robot_env.arms.franka.checks import check_library, limit_torque_step
from robot_env.arms.franka.config import FrankaConfig, check_against
from robot_env.client import HostClient
from robot_env.host.authorization import Permission
from robot_env.recorder.recording import Recording
from robot_env.tasks import make

Result = TypeVar("Result")
SIM = FrankaConfig(address="127.0.0.1", realtime=False)


@pytest.fixture
def mock():
    yield from make_mock()


def test_a_panda_behind_the_address_of_an_fr3_is_refused():
    with pytest.raises(ConfigError, match=r"'fr3'.*'panda'"):
        next(make_mock(arm="panda"))


def test_a_library_of_another_age_is_refused():
    with pytest.raises(ProtocolMismatch, match=r"0\.9\.2 .* 0\.18"):
        check_library("0.9.2", "fr3")


def test_another_tool_than_the_configs_is_set_at_the_start():
    for rig in make_mock(FrankaConfig(tool=(0.0, 0.0, 0.15))):
        begin(rig)
        assert "set_EE" in rig.witness.told
        assert rig.robot.snapshot().position == pytest.approx(START, abs=0.004)


def test_an_unknown_payload_is_felt_before_anything_moves(mock):
    mock.world.hidden_mass = 0.8
    mock.robot.run(None, 200)
    with pytest.raises(Error, match=r"7\.\d N .* load_mass = 0"):
        begin(mock)
    assert mock.world.commands == 0


def test_a_torque_that_steps_too_far_makes_the_mock_stop_as_the_robot_does(mock):
    begin(mock)
    library = mock.witness.inner
    control = mock.robot.connection._control
    control.writeOnce(library.Torques([0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(library.ControlException, match="controller_torque_discontinuity"):
        control.readOnce()


def test_lost_commands_leave_the_account_exact_too(mock):
    snapshot = begin(mock)
    work, metered = mock.robot.state[STATE.work], mock.world.work
    for n in range(6):
        mock.world.lose_commands(15)
        snapshot = go(mock, START + np.array([0.0, 0.006 * (-1.0) ** n, 0.0]))
    assert snapshot.fault == Fault.NONE
    assert mock.robot.state[STATE.work] - work == pytest.approx(mock.world.work - metered, abs=1e-9)


def test_a_joint_beyond_the_arms_own_range_is_a_fault():
    q = np.array([0.0, -0.3, 0.0, -2.0, 0.0, FR3.low[5] + 0.002, 0.8])
    for rig in make_mock(q=q):
        rig.robot.begin()
        assert rig.robot.run(None, 5).fault == Fault.NONE
        slipped = 0.0  # [rad]

        def slip(state):
            nonlocal slipped
            slipped += 0.003  # what a joint can do in a tick
            state.q[5] -= slipped

        rig.witness.falsify = slip
        snapshot = rig.robot.run(None, 40)
        assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.JOINT_LIMIT)


@pytest.mark.parametrize(
    ("cause", "undo", "mode", "fault"),
    [
        ("press_stop", "release_stop", Mode.USER_STOP, Fault.USER_STOP),
        ("guide", "guide", Mode.GUIDING, Fault.GUIDING),
        ("reflex", "", Mode.FAULT, Fault.ROBOT_REFLEX),
    ],
)
def test_what_the_robot_does_by_itself_is_a_state_with_a_name(mock, cause, undo, mode, fault):
    begin(mock)
    go(mock, START)
    commands = mock.world.commands
    getattr(mock.world, cause)(*([True] if cause == "guide" else []))
    snapshot = go(mock, START)
    assert (snapshot.mode, snapshot.fault) == (mode, fault)
    if undo:
        with pytest.raises(DeviceLost, match=r"user stop is pressed|let go of its handles"):
            mock.robot.recover()
        getattr(mock.world, undo)(*([False] if undo == "guide" else []))
    snapshot = go(mock, START)
    assert (snapshot.mode, snapshot.fault) == (mode, fault), "it is over when a person says so"
    with pytest.raises(DeviceLost, match=fault.name):
        begin(mock)
    assert mock.world.commands == commands
    mock.robot.recover()
    assert go(mock, START).mode == Mode.IDLE
    assert mock.world.commands == commands
    begin(mock)
    assert go(mock, START).mode == Mode.FOLLOWING


@pytest.mark.slow
@pytest.mark.wallclock
def test_a_stalled_client_is_as_a_lost_packet_until_it_is_too_long():
    for rig in make_mock(paced=True):
        begin(rig)
        time.sleep(0.006)
        assert go(rig, START).fault == Fault.NONE
        assert rig.robot.clock.late >= 5
        time.sleep(0.05)
        assert go(rig, START).fault == Fault.ROBOT_COMMUNICATION


def test_the_guard_never_lets_a_large_step_or_a_nan_through():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        held = rng.uniform(-80.0, 80.0, 7)
        last = held + rng.uniform(-0.999, 0.999, 7)
        torque = rng.choice([np.nan, np.inf, -1e9, 3.0, 0.0], 7) + rng.normal(0.0, 5.0, 7)
        heard = np.where(rng.random(7) < 0.1, np.nan, held)
        limit_torque_step(torque, heard, last, 0.999)
        assert np.isfinite(torque).all()
        assert np.abs(torque - last).max() <= 0.999 + 1e-12
        known = np.isfinite(heard)
        assert np.abs(torque - held)[known].max(initial=0.0) <= 0.999 + 1e-12


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="collision_force"):
        check_against(FrankaConfig(collision_force=26.0), ControlConfig())
    with pytest.raises(ConfigError, match="rest_force"):
        check_against(FrankaConfig(rest_force=12.0), ControlConfig())
    with pytest.raises(ConfigError, match="contact_torque"):
        FrankaConfig(contact_torque=90.0)


@pytest.mark.slow
def test_a_command_that_only_simulates_refuses_another_robot(tmp_path):
    command = [sys.executable, "-m", "handrail", "record", "reach", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--host.robot", "mock"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "host.robot must be 'mujoco' for `record`" in done.stderr + done.stdout


def stall(host: subprocess.Popen) -> None:
    host.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    host.send_signal(signal.SIGCONT)
    time.sleep(0.1)


def past_stalls(
    work: Callable[[], Result], recover: Callable[[], object], stalls: list[str], most: int = 12
) -> Result:
    """Return what work returns; recover and do it again where the machine itself held the host up.

    The mock's clock is the wall's, so a machine that is busy for 20 ms is a robot that was lost.

    Args:
        work: Raises DeviceLost where it met the fault.
        recover: Has the robot leave the fault.
        stalls: Gets what was said of each.
        most: Stalls that are put up with.
    """
    while len(stalls) < most:
        try:
            return work()
        except DeviceLost as error:
            if "ROBOT_COMMUNICATION" not in str(error):
                raise
            stalls.append(str(error))
            recover()
    return work()


@pytest.mark.slow
@pytest.mark.wallclock
def test_a_host_can_be_commissioned_without_a_robot(tmp_path):
    task = make("reach")
    text = '[task]\nname = "reach"\n'
    run = create_run(tmp_path / "run", "reach", task.spec.hash, text)
    log = open(run.log("host"), "w+", encoding="utf-8")  # noqa: SIM115 - closed below
    host = subprocess.Popen(
        [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--mock"], stderr=log
    )
    stalls: list[str] = []  # by the machine, beside the three of this test
    try:
        may = {"ask": Permission.RECOVER, "key": run.host_key}
        with HostClient.connect(run.id, task, deadline=120, **may) as client:
            assert client.peek().mode == Mode.IDLE

            def follow() -> tuple[Snapshot, np.ndarray]:
                snapshot, goal_estimate = client.reset(3)
                assert snapshot.mode == Mode.HOLDING
                for seq in range(25):
                    action = np.clip(task.expert_action(snapshot, goal_estimate), -1.0, 1.0)
                    snapshot = client.step(task.request(snapshot, action, seq))
                if client.peek().fault == Fault.ROBOT_COMMUNICATION:
                    raise DeviceLost("ROBOT_COMMUNICATION on the way")
                return snapshot, goal_estimate

            snapshot, goal_estimate = past_stalls(follow, client.recover, stalls)
            assert np.linalg.norm(snapshot.position - goal_estimate[:3]) < 0.012
            assert task.success(snapshot.privileged_state)
            stall(host)  # the robot misses more than twenty commands
            assert client.peek().fault == Fault.ROBOT_COMMUNICATION
            with pytest.raises(DeviceLost, match="person"):
                client.reset(4)
            client.recover()
            again = past_stalls(lambda: client.reset(4), client.recover, stalls)
            assert again[0].mode == Mode.HOLDING
            stall(host)
        command = [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--recover"]

        def recover() -> None:
            subprocess.run(command, check=True, timeout=60, capture_output=True)

        def resume() -> None:
            with HostClient.connect(run.id, task, deadline=30) as client:
                assert client.peek().mode == Mode.IDLE
                assert client.reset(5)[0].mode == Mode.HOLDING
                threading.Timer(0.3, stall, [host]).start()
                with pytest.raises(DeviceLost, match="ROBOT_COMMUNICATION"):
                    client.reset(6)

        recover()
        past_stalls(resume, recover, stalls)
    finally:
        host.terminate()
        code = host.wait(timeout=30)
        log.seek(0)
        said = log.read()
        log.close()
    assert code == 0, said
    recordings = sorted((run.folder / "recordings").glob("*.mcap"))
    assert {file.name[7:] for file in recordings} == {"robot-communication.mcap"}
    assert len(recordings) == 3 + len(stalls)
    events = [event.what for event in Recording(recordings[-1]).events]
    begun = next(n for n, what in enumerate(events) if what.endswith("begins, seed 5"))
    assert "fault ROBOT_COMMUNICATION" in events[begun:]
