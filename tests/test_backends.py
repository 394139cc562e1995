"""What must be true of every robot behind the chain: simulated, mocked, and franka-sim's.

franka-sim is the real client library against a server of the real protocol; it runs with
`make test-franka`.
"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from backends import (
    ROOT,
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

from controllers.config import ControlConfig
from controllers.layout import S
from controllers.robot import Fault, Mode
from handrail.errors import ConfigError, DeviceLost, Error, ProtocolMismatch
from handrail.runs import create_run
from robot_env.client import HostClient
from robot_env.robots import franka
from robot_env.robots.arms import FR3
from robot_env.robots.fake_franka import FakeLibrary
from robot_env.robots.fake_world import World
from robot_env.robots.franka import FrankaRobot
from robot_env.robots.franka_check import check_library, guard
from robot_env.robots.franka_config import FrankaConfig, check_against
from robot_env.robots.franka_gripper import HandProcess, HandThread
from robot_env.robots.panda import scene
from robot_env.robots.plant import TRACE
from robot_env.tasks import make
from robot_env.tasks.base import HOME

SIM = FrankaConfig(address="127.0.0.1", realtime=False)
HELD = 0.002  # [m], how far a holding arm may be from its target
FOLLOWED = 0.004  # [m], likewise after following
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


@pytest.fixture
def mock():
    yield from make_mock()


each = pytest.mark.parametrize("rig", ALL, indirect=True)
each_franka = pytest.mark.parametrize("rig", FRANKAS, indirect=True)


def sent(rig: Rig) -> np.ndarray:
    """Return the torques that were sent since control began (n, 7)."""
    if rig.witness is None:
        return rig.robot.history(12_000)[:, TRACE["torque"]]
    return np.array([command for command, _ in rig.witness.commands])


# ---- every backend


@each
def test_it_holds_for_ten_seconds(rig):
    begin(rig)
    far = [np.linalg.norm(go(rig, START).position - START) for _ in range(100)]
    snapshot = rig.robot.snapshot()
    assert snapshot.mode == Mode.FOLLOWING
    assert snapshot.fault == Fault.NONE
    assert max(far) < HELD, f"{1e3 * max(far):.2f} mm"
    assert snapshot.time == pytest.approx(10.0, abs=0.2)


@each
def test_it_follows_targets_at_ten_hertz(rig):
    snapshot = begin(rig)
    circle = [
        START + 0.03 * np.array([0.0, np.sin(a), 1.0 - np.cos(a)])
        for a in np.linspace(0.0, 2.0 * np.pi, 50)
    ]
    lag, travelled, before = [], 0.0, START
    for target in circle:
        snapshot = go(rig, target)
        travelled += np.linalg.norm(snapshot.position - before)
        before = snapshot.position
        lag.append(np.linalg.norm(snapshot.position - target))
    assert max(lag) < 0.012, f"{1e3 * max(lag):.1f} mm"
    assert travelled > 0.8 * 2.0 * np.pi * 0.03
    for _ in range(10):
        snapshot = go(rig, circle[-1])
    assert np.linalg.norm(snapshot.position - circle[-1]) < FOLLOWED
    assert snapshot.gated_ticks < 20, "a frozen arm is no safe arm"


@each
def test_the_first_torque_is_small_and_no_step_is_larger_than_the_limit(rig):
    begin(rig)
    for sign in (1.0, -1.0, 1.0):
        go(rig, START + np.array([0.0, 0.03 * sign, 0.0]))
    torque = sent(rig)
    assert np.abs(torque[0]).max() == 0.0 if rig.witness else np.abs(torque[0]).max() < 1.0
    assert np.abs(np.diff(torque, axis=0)).max() <= ControlConfig().torque_rate + 1e-9
    assert np.isfinite(torque).all()


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
    first, work, late = len(rig.witness.states), rig.robot.state[S.work], rig.robot.late
    metered = rig.world.work if rig.world else None
    for n in range(4):
        rig.robot.run(None, 20)
        rig.lose(count)
        snapshot = go(rig, START + np.array([0.0, 0.005 * (-1.0) ** n, 0.0]), 80)
    assert snapshot.fault == Fault.NONE
    assert snapshot.mode == Mode.FOLLOWING
    assert rig.robot.late - late >= 4 * count
    states = rig.witness.states[first - 1 :]
    moved = np.diff([q for q, _ in states], axis=0)
    acted = np.array([echo for _, echo in states[1:]])
    booked = rig.robot.state[S.work] - work
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

    def nonsense(params, state, reading, mailbox, critic, torque):
        torque[:] = rng.choice([np.nan, np.inf, -np.inf, 1e6, -1e6, 0.5], 7)

    monkeypatch.setattr(franka, "advance", nonsense)
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
        rig.robot.set_load(1.0, np.zeros(3), np.zeros((3, 3)))
    rig.robot.end()
    rig.robot.set_load(0.5, np.array([0.0, 0.0, 0.05]), 1e-3 * np.eye(3))


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


# ---- what only the mock can do


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
    control = mock.robot.link._control
    control.writeOnce(library.Torques([0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(library.ControlException, match="controller_torque_discontinuity"):
        control.readOnce()


def test_lost_commands_leave_the_account_exact_too(mock):
    snapshot = begin(mock)
    work, metered = mock.robot.state[S.work], mock.world.work
    for n in range(6):
        mock.world.lose_commands(15)
        snapshot = go(mock, START + np.array([0.0, 0.006 * (-1.0) ** n, 0.0]))
    assert snapshot.fault == Fault.NONE
    assert mock.robot.state[S.work] - work == pytest.approx(mock.world.work - metered, abs=1e-9)


def test_a_joint_beyond_the_arms_own_range_is_a_fault():
    q = np.array([0.0, -0.3, 0.0, -2.0, 0.0, FR3.q_low[5] + 0.002, 0.8])
    for rig in make_mock(q=q):
        rig.robot.begin()
        assert rig.robot.run(None, 5).fault == Fault.NONE

        def beyond(state):
            state.q[5] -= 0.003

        rig.witness.falsify = beyond
        snapshot = rig.robot.run(None, 5)
        assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.JOINT_LIMIT)


@pytest.mark.parametrize(
    ("cause", "undo", "fault"),
    [
        ("press_stop", "release_stop", Fault.USER_STOP),
        ("guide", "guide", Fault.GUIDING),
        ("reflex", "", Fault.ROBOT_REFLEX),
    ],
)
def test_what_the_robot_does_by_itself_is_a_fault_with_a_name(mock, cause, undo, fault):
    begin(mock)
    go(mock, START)
    getattr(mock.world, cause)(*([True] if cause == "guide" else []))
    snapshot = go(mock, START)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, fault)
    if undo:
        with pytest.raises(DeviceLost, match=r"user stop is pressed|let go of its handles"):
            mock.robot.recover()
        getattr(mock.world, undo)(*([False] if undo == "guide" else []))
    assert go(mock, START).fault == fault, "it is over only when a person says so"
    with pytest.raises(DeviceLost, match=fault.name):
        begin(mock)
    mock.robot.recover()
    begin(mock)
    assert go(mock, START).mode == Mode.FOLLOWING


def test_a_stalled_client_is_as_a_lost_packet_until_it_is_too_long():
    for rig in make_mock(paced=True):
        begin(rig)
        time.sleep(0.006)
        assert go(rig, START).fault == Fault.NONE
        assert rig.robot.late >= 5
        time.sleep(0.05)
        assert go(rig, START).fault == Fault.ROBOT_COMMUNICATION


def test_a_hand_closes_with_limited_force_and_opens():
    world = World(scene("", gripper=True), q=HOME)
    library = FakeLibrary(world)
    hand = HandThread(library.Gripper("mock"), 20.0, 0.1)
    robot = FrankaRobot(
        FrankaConfig(gripper=True), ControlConfig(), 10.0, library, world.model, world.data,
        world=world, hand=hand,
    )  # fmt: skip
    try:
        for asked in (0.0, 0.06):
            hand.ask(asked)
            end = time.monotonic() + 20.0
            while abs(hand.width - asked) > 2e-3:
                robot.run(None, 20)
                assert time.monotonic() < end, f"{hand.width} m, asked for {asked} m"
            force = world.model.actuator_forcerange[7, 1]
            assert (force == 20.0) == (asked == 0.0)
    finally:
        robot.close()


LIBRARY = """
class State:
    width = 0.08
class Gripper:
    def __init__(self, address):
        self.state = State()
        if address != "hand":
            raise RuntimeError("no hand there")
    def read_once(self):
        return self.state
    def move(self, width, speed):
        self.state.width = width
    def grasp(self, width, speed, force, inner, outer):
        assert force == 20.0
        self.state.width = max(width, 0.03)  # something is held
"""


def test_a_real_hand_is_served_by_a_process_of_its_own(tmp_path, monkeypatch, caplog):
    (tmp_path / "pylibfranka.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")

    def wait_for(hand, true):
        end = time.monotonic() + 20.0
        while not true():
            assert time.monotonic() < end, hand.width
            time.sleep(0.01)
            hand.poll()

    hand = HandProcess("hand", 20.0, 0.1)
    wait_for(hand, lambda: hand.width == 0.08)
    for asked, found in ((0.0, 0.03), (0.06, 0.06)):
        hand.ask(asked)
        wait_for(hand, lambda found=found: hand.width == found)
    hand.close()
    hand.close()
    lost = HandProcess("nowhere", 20.0, 0.1)
    wait_for(lost, lambda: "the hand's process is gone" in caplog.text)
    lost.ask(0.02)  # the arm goes on
    lost.close()


def test_the_guard_never_lets_a_large_step_or_a_nan_through():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        held = rng.uniform(-80.0, 80.0, 7)
        last = held + rng.uniform(-0.999, 0.999, 7)
        torque = rng.choice([np.nan, np.inf, -1e9, 3.0, 0.0], 7) + rng.normal(0.0, 5.0, 7)
        heard = np.where(rng.random(7) < 0.1, np.nan, held)
        guard(torque, heard, last, 0.999)
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


@pytest.mark.slow
def test_a_host_can_be_commissioned_without_a_robot(tmp_path):
    task = make("reach")
    text = '[task]\nname = "reach"\n'
    run = create_run(tmp_path / "run", "reach", task.spec.hash, text)
    log = open(run.log("host"), "w+", encoding="utf-8")  # noqa: SIM115 - closed below
    host = subprocess.Popen(
        [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--mock"], stderr=log
    )
    try:
        with HostClient.connect(run.id, task, deadline=120) as client:
            assert client.peek().mode == Mode.IDLE
            snapshot, nominal = client.reset(3)
            assert snapshot.mode == Mode.HOLDING
            for seq in range(25):
                action = np.clip(task.guide(snapshot, nominal), -1.0, 1.0)
                snapshot = client.step(task.request(snapshot, action, seq))
            assert np.linalg.norm(snapshot.position - nominal[:3]) < 0.012
            assert task.success(snapshot.truth)
            stall(host)  # the robot misses more than twenty commands
            assert client.peek().fault == Fault.ROBOT_COMMUNICATION
            with pytest.raises(DeviceLost, match="person"):
                client.reset(4)
            client.recover()
            assert client.reset(4)[0].mode == Mode.HOLDING
            stall(host)
        command = [sys.executable, "-m", "robot_env", "--run", str(run.folder), "--recover"]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        with HostClient.connect(run.id, task, deadline=30) as client:
            assert client.peek().mode == Mode.IDLE
            assert client.reset(5)[0].mode == Mode.HOLDING
    finally:
        host.terminate()
        code = host.wait(timeout=30)
        log.seek(0)
        said = log.read()
        log.close()
    assert code == 0, said
