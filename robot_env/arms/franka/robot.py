"""A Franka arm behind the control chain: torques through pylibfranka at the robot's own 1 kHz.

The robot's states are the clock: `clock.wait` waits for the next one, `run` answers it. pylibfranka
keeps the interpreter's lock while it waits, so that nothing else may run in this process. Whatever
ends a motion leaves the arm to the robot, which holds it; only `recover` goes on from there, and
only a person calls that.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import time
from typing import Any

import mujoco
import numpy as np

from controllers.chain import begin_period, initial_state
from controllers.config import ControlConfig
from controllers.kinematics import READY
from controllers.packed import (
    CMD,
    MEAS,
    MEASUREMENT_SIZE,
    PARAM,
    STATE,
    empty_command_buffer,
    pack_params,
)
from controllers.robot import Fault, Mode, Request, Snapshot
from handrail.errors import ConfigError, DeviceLost, Error
from handrail.risk_critic.format import empty_critic
from robot_env.arms.base import make_snapshot, put_request, reach_pose
from robot_env.arms.franka.clock import StateClock
from robot_env.arms.franka.config import FrankaConfig, check_against
from robot_env.arms.franka.connection import REMEDY, FrankaConnection
from robot_env.arms.franka.gripper import Hand
from robot_env.arms.franka.measurement import observe_held_arm, read_state
from robot_env.arms.franka.reset_motion import go_to_start
from robot_env.arms.franka.tick import ControlTick, compile_tick
from robot_env.arms.panda_models import ARMS
from robot_env.recorder.ring_record import memory_ring_view

_QUIET = 10  # [ticks] of zero torque at the beginning of control
_MASS_EVERY = 8  # [ticks] between looks at the robot's mass matrix; the chain uses it as rarely
_PICTURE_EVERY = 33  # [ticks] between updates of the scene that pictures are made of


class FrankaRobot:
    """An arm in torque control; see `base.ControlledArm`.

    Nothing moves before the first `reset`, and never when `readonly`.
    """

    def __init__(
        self,
        config: FrankaConfig,
        control: ControlConfig,
        control_hz: float,
        library: Any,
        model: Any,
        data: Any,
        *,
        world: Any = None,
        hand: Hand | None = None,
        readonly: bool = False,
    ) -> None:
        """Connect; see `FrankaConnection` for what is checked.

        Args:
            config: Table [franka].
            control: Table [control].
            control_hz: Policy steps per second [Hz].
            library: pylibfranka, or `mock.library.FakeLibrary`.
            model: `mujoco.MjModel` of the task's scene, for pictures.
            data: Its data; in the mock, the simulation itself.
            world: The mock's world; None on a real robot.
            hand: Its gripper, if it has one.
            readonly: Read states and never begin control.

        Raises:
            ConfigError: Settings contradict each other, or as `FrankaConnection`.
            Error: As `FrankaConnection`.
        """
        check_against(config, control)
        if abs(control.dt - 1e-3) > 1e-12:
            raise ConfigError(f"a Franka runs at dt = 0.001 s, got control.dt = {control.dt}")
        self.connection = FrankaConnection(config, library, readonly)
        self.clock = StateClock(self.connection)
        self.config, self.control, self.control_hz = config, control, control_hz
        self.model, self.data = model, data
        self.simulated = world is not None
        self.has_gripper = hand is not None
        self.tool = config.tool
        self.params = pack_params(control, control_hz, config.tool, ARMS[config.model].joints)
        self.period = int(self.params[PARAM.period])  # [ticks] of a policy period
        self.episode = 0
        self.heartbeat_age = 0.0  # [s], of the actor; set by a host in real time
        self.late_ticks = 0  # of the period so far; set by a host in real time
        self.critic = empty_critic()  # a host may set another between ticks
        self.ring_view = memory_ring_view(0)  # the flight recorder's; a host may set one
        self.state = initial_state(self.params)
        self._world, self._hand = world, hand
        self._measurement = np.zeros(MEASUREMENT_SIZE)
        self._command_buffer = empty_command_buffer()
        self._control = ControlTick(config.delay)
        self._time = 0  # [ticks] of the robot's clock since the episode began
        self._asked_width = -1.0
        self._tick_s, self._tick_count = 0.0, 0  # [s, -] of the period so far
        read_state(self.connection.state, 1, self._measurement)
        observe_held_arm(self.params, self.state, self._measurement, self.connection.fault_now())

    # ---- a policy period

    def run(self, request: Request | None, ticks: int, begin: bool = True) -> Snapshot:
        """Control for some ticks; see `controllers.robot.Robot`."""
        if request is not None and not self.connection.readonly:
            put_request(self._command_buffer, request)
        self._command_buffer[CMD.heartbeat] = self.heartbeat_age
        if begin:
            begin_period(self.state)
            self._tick_s, self._tick_count = 0.0, 0
        left = ticks
        while left > 0:
            if self.clock.due == 0:
                self.clock.wait()
            left -= self.clock.due
            self._tick()
        self._command_buffer[CMD.rearm] = 0.0
        return self.snapshot()

    def stop(self, fault: Fault = Fault.COMMANDED) -> None:
        """Go to soft stop from the next tick on, for a reason."""
        self._command_buffer[CMD.stop] = float(fault)

    def rearm(self) -> None:
        """Leave the soft stop with the next tick, holding until a fresh request comes."""
        self._command_buffer[CMD.stop], self._command_buffer[CMD.rearm] = 0.0, 1.0

    def snapshot(self) -> Snapshot:
        """Return what the host says at the end of a period."""
        snapshot = make_snapshot(self.state, self._measurement, self.control.dt)
        snapshot.time = 1e-3 * self._time
        snapshot.episode = self.episode
        snapshot.tick_us = self._tick_s * 1e6 / max(1, self._tick_count)
        snapshot.gripper_width = self._hand.width if self._hand is not None else 0.0
        snapshot.late_ticks = self.late_ticks
        return snapshot

    # ---- episodes

    def inverse_kinematics(
        self, position: np.ndarray, quaternion: np.ndarray, q0: np.ndarray = READY
    ) -> np.ndarray:
        """Return joint angles (7,) [rad] for a reset; see `base.reach_pose`.

        Raises:
            Error: No joint angles within the robot's limits reach the pose.
        """
        return reach_pose(self.params, position, quaternion, q0)

    def reset(
        self, q: np.ndarray, gripper_width: float, rng: np.random.Generator, grasp: bool = False
    ) -> Snapshot:
        """Bring the arm to a start by a motion of its own controller, then hold with a full tank.

        The tool goes up, across, and down, in straight lines. Read-only hosts only count the
        episode.

        Args:
            q: Joint angles where the episode begins, shape (7,) [rad].
            gripper_width: Opening of the fingers [m].
            rng: Nothing is drawn from it: a real arm brings its own imperfections.
            grasp: Nobody can put a part between the fingers of a real hand.

        Returns:
            The first snapshot of the episode.

        Raises:
            DeviceLost: The robot is in a fault that a person has to end, or the motion was ended.
            Error: The start can't be reached, or a check before the motion failed.
        """
        if grasp:
            raise Error("a task that begins with a part in the hand can't be reset on this robot")
        if self._world is not None:
            self._world.place_objects()
        self.episode += 1
        if not self.connection.readonly:
            self.begin()
            self._ask_hand(gripper_width)
            self._anchor(gripper_width)
            go_to_start(self, np.asarray(q, np.float64))
            self._anchor(gripper_width)
            self._time = 0
        return self.snapshot()

    def hold_then_begin(self, ticks: int) -> Snapshot:
        """Hold for some ticks, then begin the episode from there with a full tank."""
        self.run(None, ticks)
        if self.connection.active:
            self._anchor(self.state[STATE.gripper])
        return self.snapshot()

    def warm_up(self) -> None:
        """Compile what a tick runs through, on copies."""
        compile_tick(self.params, self.critic)

    # ---- beginning, ending, recovering

    def begin(self) -> None:
        """Begin control where the arm is, with some ticks of no torque; nothing if it runs.

        The robot compensates gravity, so no torque holds the arm. A motion's first states come
        irregularly, and whether its first commands counted is seen only later.

        Raises:
            DeviceLost: The robot is in a fault, or not idle.
            ProtocolMismatch: This host is read-only.
            Error: A check failed; the message says which.
        """
        fault = Fault(self.connection.fault or int(self.state[STATE.fault]))
        if self.connection.fault != Fault.NONE or self.state[STATE.mode] >= Mode.FAULT:
            raise DeviceLost(f"the robot stopped ({fault.name}); {REMEDY}")
        if self.connection.active:
            return
        self.connection.begin()
        rest = np.zeros(7)
        for _ in range(_QUIET):
            self.connection.write(rest)
            self.connection.read()
            if not self.connection.active:
                raise DeviceLost(f"the robot ended the motion as it began; {REMEDY}")
        read_state(self.connection.state, 1, self._measurement)
        self._control.begin(self._measurement)
        self._anchor(self._hand.width if self._hand is not None else 0.0)
        self.connection.write(self._control.sent)
        self.clock.take()

    def end(self) -> None:
        """End control as the robot ends it: it brakes and holds the arm. Nothing if none runs."""
        if self.connection.active:
            self.connection.end(self._control.sent)
            self.state[STATE.mode] = Mode.IDLE

    def recover(self) -> None:
        """Leave a fault, because a person asked for it; nothing moves before the next `reset`.

        Raises:
            DeviceLost: No robot answers, or its stop or guiding buttons are pressed.
            ProtocolMismatch: This host is read-only.
            Error: The robot refuses.
        """
        self.end()
        self.connection.recover()
        self.state[STATE.mode], self.state[STATE.fault] = Mode.IDLE, Fault.NONE

    def close(self) -> None:
        """End control and let go of the robot; safe to call twice."""
        self.end()
        self.connection.close()
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    # ---- inside

    def _anchor(self, gripper: float) -> None:
        self.state = initial_state(self.params, self._measurement[MEAS.q : MEAS.q + 7].copy())
        self.state[STATE.gripper] = gripper
        self.state[STATE.torque : STATE.torque + 7] = self._control.sent
        self._command_buffer[:] = empty_command_buffer()

    def _tick(self) -> None:
        start = time.perf_counter()
        elapsed = self.clock.take()
        self._time += elapsed
        if self.connection.state is not None:
            read_state(self.connection.state, elapsed, self._measurement)
        if self.connection.active:
            self._control_tick()
        if not self.connection.active:
            observe_held_arm(
                self.params, self.state, self._measurement, self.connection.fault_now()
            )
        self._tick_s += time.perf_counter() - start
        self._tick_count += 1
        if self._hand is not None and self.connection.active:
            self._ask_hand(self.state[STATE.gripper])
        if not self.simulated and self._time % _PICTURE_EVERY < elapsed:
            self.data.qpos[:7] = self._measurement[MEAS.q : MEAS.q + 7]
            mujoco.mj_kinematics(self.model, self.data)

    def _control_tick(self) -> None:
        measurement, state = self._measurement, self.state
        if int(state[STATE.tick]) % _MASS_EVERY == 0:
            measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49] = self.connection.mass()
        self._control.advance(
            self.params, state, measurement, self._command_buffer, self.critic, self.ring_view
        )
        if state[STATE.fault] in (Fault.STATE_NOT_FINITE, Fault.STATE_JUMP):
            self.connection.halt(Fault(int(state[STATE.fault])))
            return
        self.connection.write(self._control.guarded(measurement))

    def _ask_hand(self, width: float) -> None:
        if self._hand is None:
            return
        self._hand.poll()
        if abs(width - self._asked_width) > 1e-4:
            self._hand.ask(float(width))
            self._asked_width = float(width)
