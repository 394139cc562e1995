"""Joints that go where a test says, under the chain, and a meter that knows none of its books."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
from made_chain import DOWN, START, rest

from controllers.chain import NO_CRITIC, advance, initial_state
from controllers.config import ControlConfig
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW, READY
from controllers.packed import CMD, MEAS, STATE, empty_command_buffer, pack_params
from controllers.robot import Mode, Request
from robot_env.arms.sim.mujoco_robot import MujocoRobot

LOW, HIGH = Q_LOW.tolist(), Q_HIGH.tolist()
# no cap, no refill, all dissipation credited: the books are an identity
BOOKS = ControlConfig(
    dissipation_credit=1.0, tank_max=1e6, refill=0.0, human_energy_loan=0.0, force_limit=1e9
)
ACCELERATION = 0.01  # [rad/s] per tick, of a joint: 10 rad/s^2, as a real one's
WAYS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # of torque and a drift [-]
    "with": lambda torque, drift: np.sign(torque),
    "yield": lambda torque, drift: np.minimum(1.0, np.maximum(-1.0, torque / 20.0)),
    "against": lambda torque, drift: -np.sign(torque),
    "drift": lambda torque, drift: drift,
    "still": lambda torque, drift: 0.0 * drift,
}


class Joints:
    """An arm of made-up motion: what it was sent acts after a delay, unless it is lost.

    In place of a lost command the arm goes on with the last one that came. Ticks that the host
    missed make one reading of several ticks.
    """

    def __init__(self, control: ControlConfig, delay: int = 0, hz: float = 100.0) -> None:
        """Set up at rest.

        Args:
            control: Of the chain.
            delay: From command to torque [ticks].
            hz: Policy steps per second [Hz].
        """
        self.control, self.delay = control, delay
        self.params = pack_params(control, hz)
        self.command_buffer, self.measurement, self.critic = (
            empty_command_buffer(),
            rest(),
            NO_CRITIC,
        )
        self.torque = np.zeros(7)
        self.newest = np.zeros(7)  # command that came last [N m]
        self._pipe = deque([np.zeros(7)] * (delay + 1), maxlen=delay + 1)
        self._lose = 0  # [ticks] left of a burst of lost commands
        self.dq = np.zeros(7)
        self.work: list[float] = []  # [J] given to the arm in each tick
        self.stroke: list[float] = []  # [J], what torque and motion of the tick could be worth
        self.stored: list[float] = []  # [J] in springs and barriers after it
        self.tank: list[float] = []  # [J] of the chain, after it
        self.supply: list[float] = []  # [J] of refill and loans in it
        self.step: list[float] = []  # [N m], largest of a joint from the command that came last
        self.begin(READY)

    @property
    def acting(self) -> np.ndarray:
        """Torque that acts until the next tick (7,) [N m]."""
        return self._pipe[0]

    def begin(self, q: np.ndarray) -> None:
        """Begin an episode; what the arm was sent stays in effect."""
        self.state = initial_state(self.params, q)
        self.measurement[MEAS.q : MEAS.q + 7] = q
        self.command_buffer[:] = empty_command_buffer()

    def ask(self, pose: np.ndarray, stiffness: float = 0.0, source: int = 0) -> None:
        """Put the next request in the command buffer."""
        command_buffer = self.command_buffer
        command_buffer[CMD.seq] = self.state[STATE.seq] + 1.0
        command_buffer[CMD.authority], command_buffer[CMD.pose : CMD.pose + 7] = source, pose
        command_buffer[CMD.stiffness : CMD.stiffness + 3] = stiffness
        command_buffer[CMD.stiffness + 3] = stiffness / 20.0

    def ask_ahead(self, rng: np.random.Generator) -> None:
        """Ask for a target near the tool, and some stiffness."""
        pose = self.state[STATE.pose : STATE.pose + 7].copy()
        pose[:3] += rng.uniform(-0.02, 0.02, 3)
        self.ask(pose, rng.uniform(50.0, 3000.0))

    def tick(
        self,
        moved: np.ndarray,
        lost: bool = False,
        elapsed: int = 1,
        spoil: tuple[int, float] | None = None,
    ) -> np.ndarray:
        """Move the joints by `moved` under the torque in effect, then let the chain do a tick.

        Args:
            moved: Of each joint, shape (7,) [rad].
            lost: The arm never sees this tick's torque.
            elapsed: Since the last tick [ticks].
            spoil: Part of the reading, and what is said of it instead.
        """
        acted, measurement, state = self.acting, self.measurement, self.state
        self.work.append(float(acted @ moved))
        self.stroke.append(float(np.abs(acted) @ np.abs(moved)))
        self.dq = moved / (elapsed * self.control.dt)
        measurement[MEAS.q : MEAS.q + 7] += moved
        measurement[MEAS.dq : MEAS.dq + 7], measurement[MEAS.elapsed] = self.dq, elapsed
        (
            measurement[MEAS.applied_torque : MEAS.applied_torque + 7],
            measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7],
        ) = acted, self.newest
        said, credit = measurement, float(state[STATE.loan_in_window])
        if spoil is not None:
            said = measurement.copy()
            said[spoil[0]] = spoil[1]
        advance(self.params, state, said, self.command_buffer, self.critic, self.torque)
        lent = max(0.0, float(state[STATE.loan_in_window]) - credit)
        self.supply.append(self.control.refill * self.control.dt * elapsed + lent)
        self.stored.append(held_energy(self.control, state))
        self.tank.append(float(state[STATE.tank]))
        self.step.append(float(np.abs(self.torque - self.newest).max()))
        if not lost:
            self.newest = self.torque.copy()
        self._pipe.append(self.newest)
        return self.torque

    def go(
        self, wanted: np.ndarray, rng: np.random.Generator, loss: float = 0.0, burst: int = 1
    ) -> None:
        """Do a tick with the joints changing their speed as fast as joints can.

        Args:
            wanted: Speed of each joint, shape (7,) [rad/s].
            rng: Of what is lost.
            loss: Share of ticks in which a burst of losses begins [-].
            burst: Longest [ticks].
        """
        dq = self.dq + bounded(wanted - self.dq, ACCELERATION)
        way = self.measurement[MEAS.q : MEAS.q + 7] + dq * np.abs(dq) / (2e3 * ACCELERATION)
        brake = (way < Q_LOW + 0.02) | (way > Q_HIGH - 0.02)  # before the end of the range
        slower = self.dq - bounded(self.dq, 1.5 * ACCELERATION)
        if self._lose == 0 and rng.random() < loss:
            self._lose = int(rng.integers(1, burst + 1))
        self.tick(1e-3 * np.where(brake, slower, dq), self._lose > 0)
        self._lose = max(0, self._lose - 1)

    def worst_window(self) -> float:
        """Return max over windows of E_out - V_start - supply [J]."""
        out, worst, lowest, stored = 0.0, -np.inf, -np.inf, 0.0
        for work, supply, after in zip(self.work, self.supply, self.stored, strict=True):
            lowest = max(lowest, -out - stored)
            out += work - supply
            worst, stored = max(worst, lowest + out), after
        return worst

    def debit(self, burst: int) -> float:
        """Return the largest of |torque| |motion| from command to command [J]."""
        width = 1 + self.delay + burst
        return float(np.convolve(self.stroke, np.ones(width)).max())


def imbalance(joints: Joints) -> float:
    """Return by how much energy given out + stored + in the tank has changed [J]."""
    total = np.cumsum(joints.work) + np.array(joints.stored) + np.array(joints.tank)
    return float(np.ptp(total))


def bounded(values: np.ndarray, bound: float) -> np.ndarray:
    """Return values within +-bound; numpy's own `clip` takes longer than a tick."""
    return np.minimum(np.maximum(values, -bound), bound)


def held_energy(control: ControlConfig, state: np.ndarray) -> float:
    """Return what springs and barriers hold [J], from where their ends are."""
    values = state.tolist()
    pose, target = values[STATE.pose : STATE.pose + 7], values[STATE.target : STATE.target + 7]
    stiffness, total = values[STATE.stiffness : STATE.stiffness + 4], 0.0
    for k, a, b in zip(stiffness, pose[:3], target[:3], strict=False):
        error = abs(b - a)
        reach = min(error, control.max_stretch)
        total += k * reach * (error - 0.5 * reach)
    x, y, z, w = pose[3:]
    u, v, t, s = target[3:]
    across = math.hypot(
        w * u - s * x + z * v - y * t, w * v - s * y + x * t - z * u, w * t - s * z + y * u - x * v
    )
    angle = 2.0 * math.atan2(across, abs(x * u + y * v + z * t + w * s))
    bend = min(angle, control.max_rotational_stretch)
    total = values[STATE.stiffness_scale] * (total + stiffness[3] * bend * (angle - 0.5 * bend))
    for q, low, high in zip(values[STATE.q : STATE.q + 7], LOW, HIGH, strict=True):
        depth = max(0.0, low + control.joint_margin - q, q - high + control.joint_margin)
        total += 0.5 * control.joint_repulsion * depth * depth
    return total


def roam(
    joints: Joints,
    rng: np.random.Generator,
    ticks: int,
    loss: float = 0.0,
    burst: int = 1,
    top: float = 0.3,
) -> None:
    """Let joints and requests do their worst: go with the torque, stretch, stiffen, let go.

    Args:
        joints: Changed in place.
        rng: Of everything random.
        ticks: How many.
        loss: Share of ticks in which commands begin to be lost [-].
        burst: Longest loss [ticks].
        top: Largest speed, as a share of what each joint can do [-].
    """
    way = asking = "still"
    speed, drift, state = np.zeros(7), np.zeros(7), joints.state
    for k in range(ticks):
        if k % 100 == 0:
            way = str(rng.choice(list(WAYS)))
            speed, drift = rng.uniform(0.05, 1.0) * top * DQ_MAX, rng.uniform(-1.0, 1.0, 7)
        if k % 200 == 0:
            asking = rng.choice(["ahead", "near", "anywhere"])
        if k % 10 == 0:
            pose = state[STATE.target : STATE.target + 7].copy()
            stiffness = 3000.0 if rng.random() < 0.5 else 50.0
            if asking == "ahead":  # in phase with the motion: pumps as hard as a policy can
                lead = 0.1 * np.sign(state[STATE.twist : STATE.twist + 3] + 1e-9)
                pose[:3], stiffness = state[STATE.pose : STATE.pose + 3] + lead, 3000.0
            elif asking == "near":
                pose[:3] += rng.uniform(-0.05, 0.05, 3)
            else:
                pose[:3] = rng.uniform([0.2, -0.4, 0.0], [0.7, 0.4, 0.7])
            joints.ask(pose, stiffness, int(rng.random() < 0.05))
        joints.go(WAYS[way](joints.acting, drift) * speed, rng, loss, burst)
        if state[STATE.mode] == Mode.FAULT:
            raise AssertionError(f"possible motion is no fault, got {state[STATE.fault]}")


def sway(
    joints: Joints, rng: np.random.Generator, ticks: int, loss: float = 0.0, burst: int = 1
) -> None:
    """Sway about a stiff, hardly damped target: a torque that lags gives energy in every cycle."""
    home = joints.state[STATE.target : STATE.target + 7].copy()
    way = rng.uniform(0.15, 0.25, 7) * rng.choice([-1.0, 1.0], 7)
    for k in range(ticks):
        if k % 20 == 0:
            joints.ask(home, 3000.0)
            joints.command_buffer[CMD.damping_ratio] = 0.01
        joints.go(way * np.cos(0.04 * k) * min(1.0, k / 200), rng, loss, burst)


def shuttle(robot: MujocoRobot, periods: int, width: float = 0.05) -> tuple[np.ndarray, int]:
    """Ask for a motion to and fro at 0.1 m/s as a policy does.

    Args:
        robot: After its reset at `START`.
        periods: Of the policy, 100 ticks each.
        width: Of the motion to either side, along y [m].

    Returns:
        Where the tool was along y after each period [m], and ticks that were gated.
    """
    snapshot, seen, gated = robot.snapshot(), [], 0
    for k in range(periods):
        phase = 0.01 * k % (4.0 * width)
        y = min(phase, 2.0 * width - phase) if phase < 3.0 * width else phase - 4.0 * width
        target = START + np.array([0.0, y, 0.0])
        snapshot = robot.run(Request(snapshot.request_seq + 1, 0, target, DOWN, 0.0), 100)
        seen.append(float(snapshot.position[1]))
        gated += snapshot.gated_ticks
    return np.array(seen), gated


def begin(robot: MujocoRobot, seed: int = 1) -> MujocoRobot:
    """Begin an episode of a simulated arm at `START`."""
    robot.heartbeat_age, robot.critic = 0.0, NO_CRITIC
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(seed))
    return robot
