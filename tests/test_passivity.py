"""What the controller gives to the arm is bounded, and a benign policy doesn't notice.

Energy is measured by an independent meter: torque in effect times displacement in the physics,
never read from the chain's own ledger.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.chain import ControlConfig, initial_state, step
from controllers.kinematics import DQ_MAX, READY
from controllers.layout import READING_SIZE, M, R, S, empty_mailbox, pack_params
from controllers.robot import Mode, Request
from robot_env.robots.mujoco import MujocoConfig, MujocoRobot
from robot_env.robots.panda import scene

WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".62 0 .3" solref="-100000 -200"/>'
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.5, 0.0, 0.3])


class Meter:
    """Torque in effect times displacement, tick by tick, in the physics."""

    def __init__(self, robot: MujocoRobot, seed: int) -> None:
        self.robot = robot
        robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(seed))
        self.snapshot = robot.snapshot()
        self.work: list[float] = []  # [J]
        self.stored: list[float] = []  # [J] in the springs
        self.gated = 0

    def period(self, target: np.ndarray, ticks: int = 100) -> None:
        data = self.robot.data
        request = Request(self.snapshot.request_seq + 1, 0, target, DOWN, 0.0)
        for i in range(ticks):
            before = data.qpos[:7].copy()
            self.snapshot = self.robot.run(request if i == 0 else None, 1)
            self.work.append(float(data.ctrl[:7] @ (data.qpos[:7] - before)))
            self.stored.append(float(self.robot.state[S.potential]))
            self.gated += self.snapshot.gated_ticks

    def worst_window(self) -> float:
        """Return max over windows of E_out - V_start - P t [J]."""
        config = self.robot.control
        out, worst, running = 0.0, -np.inf, -np.inf
        stored = 0.0
        for work, after in zip(self.work, self.stored, strict=True):
            running = max(running, -out - stored)
            out += work - config.refill * config.dt
            worst = max(worst, running + out)
            stored = after
        return worst


def robot_of(control: ControlConfig, real: MujocoConfig | None = None) -> MujocoRobot:
    return MujocoRobot(scene(WALL, gripper=False), real or MujocoConfig(), control, 10.0)


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("kind", ["random", "bang_bang", "into_wall"])
def test_energy_given_out_stays_within_its_window(kind, delay):
    control = ControlConfig(box_low=(0.2, -0.6, 0.0), box_high=(0.9, 0.6, 0.9))
    meter = Meter(robot_of(control, MujocoConfig(delay=delay)), seed=delay)
    rng = np.random.default_rng(7)
    for _ in range(50):
        here = meter.snapshot.target_position
        if kind == "random":
            target = here + rng.uniform(-0.05, 0.05, 3)
        elif kind == "bang_bang":  # in phase with the motion: pumps as hard as a policy can
            target = START + 0.1 * np.sign(meter.snapshot.twist[:3] + 1e-6)
        else:
            target = here + np.array([0.02, 0.0, 0.0])
        meter.period(target)
        assert meter.snapshot.tank >= control.tank_min - 0.05
    debit = 2.0 * 0.01  # [J], one tick of the largest step in torque at full speed
    assert meter.worst_window() <= control.tank_max - control.tank_min + debit
    assert meter.snapshot.mode == Mode.FOLLOWING


def test_a_starved_tank_pays_nothing_and_recovers():
    control = ControlConfig(tank_start=0.06, tank_min=0.05, refill=0.0)
    starved = Meter(robot_of(control), seed=0)
    for k in range(20):
        starved.period(START + np.array([0.0, 0.08 * (-1) ** k, 0.0]))
    assert starved.gated > 500
    assert starved.worst_window() < 0.2
    paid = Meter(robot_of(ControlConfig(tank_start=0.06, tank_min=0.05)), seed=0)
    for k in range(40):
        paid.period(START + np.array([0.0, 0.01 * min(k, 5), 0.0]))
    assert abs(paid.snapshot.position[1] - 0.05) < 0.005


def test_a_benign_motion_against_friction_is_completed_without_the_gate():
    friction = MujocoConfig(friction=(0.8, 0.8))  # two or three joints move: > 5 N at the tool
    meter = Meter(robot_of(ControlConfig(), friction), seed=0)
    reached = []
    for k in range(200):  # 20 s of +-50 mm at 0.1 m/s
        phase = (k * 0.01) % 0.2
        y = phase if phase < 0.05 else 0.1 - phase if phase < 0.15 else phase - 0.2
        meter.period(START + np.array([0.0, y, 0.0]))
        reached.append(meter.snapshot.position[1])
    assert meter.gated <= 0.01 * len(meter.work)
    assert np.max(reached) > 0.038
    assert np.min(reached) < -0.038
    assert meter.snapshot.tank > 0.5


def test_the_gate_is_transparent_bit_for_bit_when_energy_suffices():
    plain = ControlConfig()
    rich = ControlConfig(tank_start=1e6, tank_max=1e6)
    runs = []
    for control in (plain, rich):
        meter = Meter(robot_of(control), seed=5)
        rng = np.random.default_rng(5)
        for _ in range(30):
            meter.period(meter.snapshot.target_position + rng.uniform(-0.008, 0.008, 3))
        assert meter.gated == 0
        runs.append((meter.snapshot.q, meter.snapshot.target_position, meter.work))
    (q, target, work), (rich_q, rich_target, rich_work) = runs
    assert (q == rich_q).all()
    assert (target == rich_target).all()
    assert work == rich_work


moves = st.lists(
    st.tuples(
        st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7),
        st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(moves)
def test_books_balance_for_any_possible_motion_and_any_requests(sequence):
    """With all of the dissipation credited and no cap, energy out + stored + tank is constant."""
    control = ControlConfig(harvest=1.0, tank_start=5.0, tank_max=1e6, refill=0.0, force_limit=1e9)
    params = pack_params(control, 100.0)
    state = initial_state(params)
    reading = np.zeros(READING_SIZE)
    reading[R.q : R.q + 7], reading[R.elapsed] = READY, 1.0
    reading[R.mass : R.mass + 49] = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
    mailbox = empty_mailbox()
    given_out, torque = 0.0, np.zeros(7)
    first = None
    for k, (share, offset) in enumerate(sequence):
        mailbox[M.seq] = k
        mailbox[M.pose : M.pose + 7] = state[S.target : S.target + 7]
        mailbox[M.pose : M.pose + 3] += offset
        for _ in range(10):
            moved = np.array(share) * DQ_MAX * 1e-3
            given_out += float(torque @ moved)
            reading[R.q : R.q + 7] += moved
            reading[R.dq : R.dq + 7] = moved / 1e-3
            reading[R.acted : R.acted + 7] = reading[R.held : R.held + 7] = torque
            state, torque = step(params, state, reading, mailbox)
            if state[S.mode] == Mode.FAULT:
                return  # the motion ran into a joint's limit
            total = given_out + state[S.potential] + state[S.tank]
            first = total if first is None else first
            assert total == pytest.approx(first, abs=1e-9)
            assert state[S.work] == pytest.approx(given_out, abs=1e-9)
