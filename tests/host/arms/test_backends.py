"""What must be true of every robot behind the chain: simulated, mocked, and franka-sim's.

franka-sim is the real client library against a server of the real protocol; it runs with
`make test-franka`.
"""

import time

import numpy as np
import pytest
from backends import (
    SERVER,
    START,
    Rig,
    begin,
    go,
    make_franka_sim,
    make_mock,
    make_mujoco,
    serve,
)
from past_ticks import past

from controllers.config import ControlConfig
from controllers.packed import STATE
from controllers.robot import Fault, Mode
from handrail.errors import ConfigError, DeviceLost, Error, ProtocolMismatch
from robot_env.arms.franka import tick
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.robot import FrankaRobot
from robot_env.tasks.base import HOME
from robot_env.testing import ArmConformance

SIM = FrankaConfig(address="127.0.0.1", realtime=False)
FRANKAS = ["mock", pytest.param("franka-sim", marks=pytest.mark.franka)]
ALL = ["mujoco", *FRANKAS]


@pytest.fixture
def server(tmp_path):
    assert SERVER.exists(), f"{SERVER} is missing: make test-franka makes it"
    with serve(tmp_path):
        yield


@pytest.fixture
def rig(request):
    if request.param == "mujoco":
        yield from make_mujoco()
    elif request.param == "mock":
        yield from make_mock()
    else:
        request.getfixturevalue("server")
        yield from make_franka_sim(SIM)


each = pytest.mark.parametrize("rig", ALL, indirect=True)
each_franka = pytest.mark.parametrize("rig", FRANKAS, indirect=True)


def sent(rig: Rig) -> np.ndarray:
    """Return the torques that were sent since control began (n, 7)."""
    if rig.witness is None:
        return past(rig.robot, "tick.torque", 12_000)
    return np.array([command for command, _ in rig.witness.commands])


# ---- every backend


@each
class TestEveryBackend(ArmConformance):
    """The shipped suite, over each of ours."""

    test_it_holds_for_ten_seconds = pytest.mark.slow(ArmConformance.test_it_holds_for_ten_seconds)
    test_it_follows_targets_at_ten_hertz = pytest.mark.slow(
        ArmConformance.test_it_follows_targets_at_ten_hertz
    )

    @pytest.fixture
    def arm(self, rig):
        self.rig = rig
        return rig.robot

    def torques(self, arm):
        return sent(self.rig)

    def test_a_franka_begins_with_no_torque_beyond_gravity(self, arm):
        if self.rig.witness is None:
            pytest.skip("the simulated arm's torque has gravity in it")
        self.begin(arm)
        self.go(arm, self.start)
        assert np.abs(sent(self.rig)[0]).max() == 0.0


@pytest.mark.parametrize("rig", ["mujoco", "mock"], indirect=True)  # franka-sim has no force
def test_a_wall_pushes_the_tool_back_and_that_is_the_sign_of_force(rig):
    snapshot = begin(rig)
    for n in range(40):
        snapshot = go(rig, START + np.array([min(0.1, 0.01 * n), 0.0, 0.0]))
    assert snapshot.position[0] < 0.55
    assert -25.0 < snapshot.wrench[0] < -5.0
    assert np.abs(snapshot.wrench[1:3]).max() < 5.0


# ---- a Franka and the mock of one


@each_franka
def test_the_external_force_is_the_environments_on_the_tool(rig):
    def push(state):
        state.O_F_ext_hat_K = [10.0, 0.0, -3.0, 0.0, 0.5, 0.0]  # the robot pushes forward, and down

    rig.witness.falsify = push
    snapshot = rig.robot.run(None, 3)
    assert snapshot.wrench == pytest.approx([-10.0, 0.0, 3.0, 0.0, -0.5, 0.0], abs=1e-6)


@each_franka
@pytest.mark.parametrize("count", [1, 10, 19])
def test_lost_states_are_survived_and_the_energy_account_stays_exact(rig, count):
    begin(rig)
    snapshot = go(rig, START)
    first, work, late = len(rig.witness.states), rig.robot.state[STATE.work], rig.robot.clock.late
    metered = rig.world.work if rig.world else None
    for n in range(4):
        rig.robot.run(None, 20)
        rig.lose(count)
        snapshot = go(rig, START + np.array([0.0, 0.005 * (-1.0) ** n, 0.0]), 80)
    assert snapshot.fault == Fault.NONE
    assert snapshot.mode == Mode.FOLLOWING
    assert rig.robot.clock.late - late >= 4 * count
    states = rig.witness.states[first - 1 :]
    moved = np.diff([q for q, _ in states], axis=0)
    acted = np.array([echo for _, echo in states[1:]])
    booked = rig.robot.state[STATE.work] - work
    assert booked == pytest.approx((moved * acted).sum(), abs=1e-9)
    if metered is not None:  # integrated in the physics, by another hand
        assert booked == pytest.approx(rig.world.work - metered, abs=1e-9)


@each_franka
def test_twenty_lost_states_are_a_fault_and_only_a_person_ends_it(rig):
    begin(rig)
    go(rig, START)
    rig.lose(25)
    snapshot = rig.robot.run(None, 100)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.ROBOT_COMMUNICATION)
    commands, told = len(rig.witness.commands), len(rig.witness.told)
    for _ in range(5):
        snapshot = go(rig, START + np.array([0.0, 0.01, 0.0]))
    with pytest.raises(DeviceLost, match=r"ROBOT_COMMUNICATION.*person"):
        begin(rig)
    assert (len(rig.witness.commands), len(rig.witness.told)) == (commands, told)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.ROBOT_COMMUNICATION)
    rig.robot.recover()
    assert len(rig.witness.commands) == commands, "recovery must not move the arm"
    assert rig.robot.run(None, 10).mode == Mode.IDLE
    begin(rig)
    assert go(rig, START).mode == Mode.FOLLOWING


@each_franka
def test_nonsense_from_the_controller_is_never_sent(rig, monkeypatch):
    begin(rig)
    first, rng = len(rig.witness.commands), np.random.default_rng(0)

    def nonsense(params, state, measurement, command_buffer, critic, torque):
        torque[:] = rng.choice([np.nan, np.inf, -np.inf, 1e6, -1e6, 0.5], 7)

    monkeypatch.setattr(tick, "advance", nonsense)
    rig.robot.run(None, 12)
    monkeypatch.undo()
    commands = rig.witness.commands[first:]
    assert len(commands) >= 8
    for torque, echo in commands:
        assert np.isfinite(torque).all()
        assert np.abs(torque - echo).max() <= 0.999 + 1e-5  # the echo comes as float32
    go(rig, START)
    assert rig.robot.snapshot().fault == Fault.NONE


@each_franka
def test_a_state_that_is_not_finite_stops_the_robot_by_its_own_stop(rig):
    begin(rig)

    def blind(state):
        state.dq = [float("nan")] * 7

    rig.witness.falsify = blind
    snapshot = rig.robot.run(None, 20)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.STATE_NOT_FINITE)
    assert "stop" in rig.witness.told
    assert np.isfinite(sent(rig)).all()
    rig.witness.falsify = lambda state: None
    rig.robot.recover()
    begin(rig)
    assert go(rig, START).mode == Mode.FOLLOWING


@each_franka
def test_an_idle_arm_gets_no_torque_whatever_is_asked(rig):
    told = len(rig.witness.told)
    go(rig, START)
    snapshot = go(rig, START + np.array([0.0, 0.05, 0.0]))
    assert (snapshot.mode, snapshot.fault) == (Mode.IDLE, Fault.NONE)
    assert not rig.witness.commands
    assert "start_torque_control" not in rig.witness.told[told:]
    assert begin(rig).mode == Mode.HOLDING
    rig.robot.end()
    commands = len(rig.witness.commands)
    assert go(rig, START).mode == Mode.IDLE
    assert len(rig.witness.commands) == commands


@each_franka
@pytest.mark.parametrize(
    ("name", "mode", "fault", "words"),
    [
        ("UserStopped", Mode.USER_STOP, Fault.USER_STOP, "user stop is pressed"),
        ("Guiding", Mode.GUIDING, Fault.GUIDING, "let go of its handles"),
    ],
)
def test_user_stop_and_guiding_are_states_in_which_nothing_is_sent(rig, name, mode, fault, words):
    def held(state):
        state.robot_mode = getattr(rig.witness.RobotMode, name)

    rig.witness.falsify = held
    snapshot = go(rig, START)
    assert (snapshot.mode, snapshot.fault) == (mode, fault)
    with pytest.raises(DeviceLost, match=f"{fault.name}.*person"):
        begin(rig)
    with pytest.raises(DeviceLost, match=words):
        rig.robot.recover()
    assert go(rig, START).mode == mode
    assert not rig.witness.commands
    assert "automatic_error_recovery" not in rig.witness.told
    rig.witness.falsify = lambda state: None
    rig.robot.recover()
    assert go(rig, START).mode == Mode.IDLE
    assert not rig.witness.commands, "recovery must not move the arm"
    assert begin(rig).mode == Mode.HOLDING


@each_franka
def test_nothing_moves_while_something_pushes_on_the_resting_tool(rig):
    def lean(state):
        state.O_F_ext_hat_K = [0.0, 0.0, 8.0, 0.0, 0.0, 0.0]

    rig.witness.falsify = lean
    with pytest.raises(Error, match=r"8\.0 N .* rest_force = 5"):
        begin(rig)
    assert not rig.witness.commands
    rig.witness.falsify = lambda state: None
    assert begin(rig).mode == Mode.HOLDING


@each_franka
def test_a_read_only_host_never_commands(rig):
    rig.robot.close()
    if rig.kind == "franka-sim":
        time.sleep(2.0)  # the server takes that long to see that a client has gone
    robot = FrankaRobot(
        rig.robot.config,
        ControlConfig(),
        10.0,
        rig.witness,
        rig.robot.model,
        rig.robot.data,
        world=rig.world,
        readonly=True,
    )
    rig.witness.told.clear()
    snapshot = robot.reset(HOME, 0.0, np.random.default_rng(0))
    snapshot = robot.run(None, 50)
    assert snapshot.mode == Mode.IDLE
    assert np.isfinite(snapshot.position).all()
    for act in (robot.begin, robot.recover):
        with pytest.raises(ProtocolMismatch, match="read-only"):
            act()
    robot.close()
    assert rig.witness.told == []


@each_franka
def test_the_load_stays_as_it_is_while_the_controller_runs(rig):
    begin(rig)
    with pytest.raises(ProtocolMismatch, match="while the controller runs"):
        rig.robot.connection.set_load(1.0, np.zeros(3), np.zeros((3, 3)))
    rig.robot.end()
    rig.robot.connection.set_load(0.5, np.array([0.0, 0.0, 0.05]), 1e-3 * np.eye(3))


@each_franka
def test_the_wrong_model_is_refused_by_both_names(rig):
    rig.robot.close()
    with pytest.raises(ConfigError, match=r"'panda'.*'fr3'"):
        FrankaRobot(
            FrankaConfig(address="127.0.0.1", realtime=False, model="panda"),
            ControlConfig(),
            10.0,
            rig.witness,
            rig.robot.model,
            rig.robot.data,
        )
