"""A Franka arm behind the control chain: torques through pylibfranka at the robot's own 1 kHz.

The robot's states are the clock: `wait` blocks until the next one, `run` answers it. pylibfranka
keeps the interpreter's lock while it waits, so that nothing else may run in this process. Whatever
ends a motion leaves the arm to the robot, which holds it; only `recover` goes on from there, and
only a person calls that.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
import time
from typing import Any

import mujoco
import numpy as np

from controllers.chain import advance, begin_period, initial_state
from controllers.config import ControlConfig
from controllers.kinematics import READY, forward, pose_of
from controllers.layout import READING_SIZE, M, P, R, S, empty_mailbox, pack_params
from controllers.robot import Fault, Mode, Request, Snapshot, Source
from handrail.errors import ConfigError, DeviceLost, Error, ProtocolMismatch
from robot_env.realtime import Metronome
from robot_env.robots.arms import ARMS
from robot_env.robots.base import make_snapshot, put_request, reach_pose
from robot_env.robots.franka_check import (
    check_kinematics,
    check_library,
    check_mass,
    check_rest,
    fault_of,
    guard,
    load_inertia,
    matrix,
    tool_frame,
    wrench_on_tool,
)
from robot_env.robots.franka_config import FrankaConfig, check_against
from robot_env.robots.franka_gripper import Hand
from robot_env.robots.plant import TRACE_WIDTH, record

__all__ = ["FrankaConfig", "FrankaRobot", "load_library"]

log = logging.getLogger("host")

_TRACE_LENGTH = 12_000  # [ticks] that the flight recorder keeps
_ECHOES = 8  # [ticks] of echoed torque that are kept, for the configured delay
_MASS_EVERY = 8  # [ticks] between looks at the robot's mass matrix; the chain uses it as rarely
_PICTURE_EVERY = 33  # [ticks] between updates of the scene that pictures are made of
_ARRIVED = 0.004  # [m], a reset's motion ends this near, or where the spring's end has
_LIMIT = 0.02  # [rad] that a reset stays off the robot's joint limits
_TAKES_EFFECT = 50  # [states] after which what was configured shows
_RATE = 0.999  # [N m] per tick; the robot aborts above 1


def load_library() -> Any:
    """Return pylibfranka.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import pylibfranka  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"a Franka needs pylibfranka ({error}): pip install 'handrail[franka]'; without a "
            "robot, try --mock"
        ) from None
    return pylibfranka


class FrankaRobot:
    """An arm in torque control; see `base.ControlledArm`.

    Owns the connection. Nothing moves before the first `reset`, and never when `readonly`.
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
        """Connect and check that this is the robot that the config means.

        Args:
            config: Table [franka].
            control: Table [control].
            control_hz: Policy steps per second [Hz].
            library: pylibfranka, or `fake_franka.FakeLibrary`.
            model: `mujoco.MjModel` of the task's scene, for pictures.
            data: Its data; in the mock, the simulation itself.
            world: The mock's world; None on a real robot.
            hand: Its gripper, if it has one.
            readonly: Read states and never begin control.

        Raises:
            DeviceLost: No robot answers.
            ProtocolMismatch: Library and robot speak different protocols.
            ConfigError: It is another model of arm, or settings contradict each other.
            Error: Our model of the arm is not the robot's.
        """
        check_library(library.__version__, config.model)
        check_against(config, control)
        if abs(control.dt - 1e-3) > 1e-12:
            raise ConfigError(f"a Franka runs at dt = 0.001 s, got control.dt = {control.dt}")
        self.config, self.control, self.control_hz = config, control, control_hz
        self.model, self.data, self.readonly = model, data, readonly
        self.simulated = world is not None
        self.has_gripper = hand is not None
        self.tool = config.tool
        self.params = pack_params(control, control_hz, config.tool)
        self.period = int(self.params[P.period])  # [ticks] of a policy period
        self.episode = 0
        self.heartbeat_age = 0.0  # [s], of the actor; set by a host in real time
        self.late_ticks = 0  # set by a host in real time, since the last snapshot
        self.late = 0  # states of the robot that were missed
        self.trace = np.zeros((_TRACE_LENGTH, TRACE_WIDTH))
        self.state = initial_state(self.params)
        self.state[S.mode] = Mode.IDLE
        self._library, self._world, self._hand = library, world, hand
        self._arm = ARMS[config.model]
        self._reading = np.zeros(READING_SIZE)
        self._mailbox = empty_mailbox()
        self._jacobian = np.empty((6, 7))
        self._torque, self._sent = np.zeros(7), np.zeros(7)
        self._echoes = np.zeros((_ECHOES, 7))
        self._count = 0  # rows in the trace
        self._time = 0  # [ticks] of the robot's clock since the episode began
        self._fresh: Any = None  # state that no tick has answered yet
        self._elapsed = 0  # [ticks] that came with it
        self._last_time = 0.0  # [s] of the robot's clock, outside control
        self._robot: Any = None
        self._dynamics: Any = None
        self._control: Any = None
        self._fault = Fault.NONE
        self._asked_width = -1.0
        self._tick_us = 0.0
        self._backup = Metronome(1e-3)  # paces the loop while there is no robot
        self._connect()

    # ---- the clock of the real-time loop

    @property
    def clock(self) -> FrankaRobot:
        """The robot is the clock."""
        return self

    def wait(self) -> int:
        """Wait for the robot's next state and return the ticks since the last one, at least 1."""
        try:
            if self._control is not None:
                self._fresh, duration = self._control.readOnce()
                self._elapsed = max(1, round(1e3 * duration.to_sec()))
            else:
                self._fresh = self._robot.read_once()
                now = self._fresh.time.to_sec()
                passed = round(1e3 * (now - self._last_time))
                self._elapsed, self._last_time = min(max(1, passed), 100), now
        except self._library.ControlException as error:
            self._lose_control(error)
        except (self._library.NetworkException, self._library.InvalidOperationException) as error:
            self._lose_robot(error)
        if self._fresh is None:
            self._elapsed = self._backup.wait()
        elif self._control is not None:
            self.late += self._elapsed - 1
        return self._elapsed

    def restart(self) -> None:
        """Forget how many states were missed until now."""
        self._backup.restart()

    # ---- a policy period

    def run(self, request: Request | None, ticks: int) -> Snapshot:
        """Control for some ticks; see `controllers.robot.Robot`."""
        if request is not None and not self.readonly:
            put_request(self._mailbox, request)
        self._mailbox[M.heartbeat] = self.heartbeat_age
        begin_period(self.state)
        left = ticks
        while left > 0:
            if self._elapsed == 0:
                self.wait()
            left -= self._elapsed
            self._answer()
        self._mailbox[M.rearm] = 0.0
        return self.snapshot()

    def stop(self) -> None:
        """Go to soft stop from the next tick on."""
        self._mailbox[M.stop] = 1.0

    def rearm(self) -> None:
        """Leave the soft stop with the next tick, holding until a fresh request comes."""
        self._mailbox[M.stop], self._mailbox[M.rearm] = 0.0, 1.0

    def snapshot(self) -> Snapshot:
        """Return what the host says at the end of a period."""
        snapshot = make_snapshot(self.state, self._reading, self.control.dt)
        snapshot.time = 1e-3 * self._time
        snapshot.episode = self.episode
        snapshot.tick_us = self._tick_us
        snapshot.gripper_width = self._hand.width if self._hand is not None else 0.0
        snapshot.late_ticks, self.late_ticks = self.late_ticks, 0
        return snapshot

    def history(self, ticks: int) -> np.ndarray:
        """Return the recorder's last rows, oldest first, shape (<= ticks, W); columns: `TRACE`."""
        ticks = min(ticks, self._count, _TRACE_LENGTH)
        return self.trace[np.arange(self._count - ticks, self._count) % _TRACE_LENGTH]

    # ---- episodes

    def inverse_kinematics(
        self, position: np.ndarray, quaternion: np.ndarray, q0: np.ndarray = READY
    ) -> np.ndarray:
        """Return joint angles (7,) [rad] for a reset; see `base.reach_pose`.

        Raises:
            Error: No joint angles within the robot's limits reach the pose.
        """
        q = reach_pose(self.params, position, quaternion, q0)
        low, high = self._arm.q_low + _LIMIT, self._arm.q_high - _LIMIT
        if not ((q >= low) & (q <= high)).all():
            raise Error(
                f"position {np.round(position, 3)} m needs joint angles {np.round(q, 2)} rad, "
                f"outside of what an {self._arm.name} can do; move the goal"
            )
        return q

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
        if not self.readonly:
            self._require_health()
            if self._control is None:
                self.begin()
            self._ask_hand(gripper_width)
            self._go(np.asarray(q, np.float64))
            self._anchor(gripper_width)
            self._time = 0
        return self.snapshot()

    def settle(self, ticks: int) -> Snapshot:
        """Hold for some ticks, then begin the episode from there with a full tank."""
        self.run(None, ticks)
        if self._control is not None:
            self._anchor(self.state[S.gripper])
        return self.snapshot()

    def warm_up(self) -> None:
        """Compile what a tick runs through, on copies."""
        state, torque = initial_state(self.params), np.zeros(7)
        reading = np.zeros(READING_SIZE)
        reading[R.q : R.q + 7] = READY
        reading[R.mass : R.mass + 49] = np.eye(7).ravel()
        reading[R.elapsed] = 1.0
        advance(self.params, state, reading, empty_mailbox(), torque)
        guard(torque, torque, torque, _RATE)
        record(np.empty(TRACE_WIDTH), 0.0, state, reading, torque)
        forward(state[S.q : S.q + 7], np.array(self.tool), np.empty(7), self._jacobian)

    def set_load(self, mass: float, centre: np.ndarray, inertia: np.ndarray) -> None:
        """Tell the robot what it carries.

        Args:
            mass: [kg].
            centre: Of mass, flange frame, shape (3,) [m].
            inertia: About that, shape (3, 3) [kg m^2].

        Raises:
            ProtocolMismatch: The controller is running; the load belongs to its model.
            Error: The robot refuses it.
        """
        if self._control is not None:
            raise ProtocolMismatch(
                "the load can't be changed while the controller runs: `end` it first"
            )
        self._tell("the load", self._robot.set_load, mass, list(centre), _column_major(inertia))

    # ---- beginning, ending, recovering

    def begin(self) -> None:
        """Begin control where the arm is: configure, check, first torque zero.

        Raises:
            DeviceLost: The robot is not idle.
            ProtocolMismatch: This host is read-only.
            Error: A check failed; the message says which.
        """
        if self.readonly:
            raise ProtocolMismatch("this host is read-only: it never begins control")
        self._require_health()
        state = self._robot.read_once()
        if _mode(state) != "Idle":
            raise DeviceLost(f"the robot is in mode {_mode(state)}, not Idle; {_REMEDY}")
        q = np.array(state.q)
        if not ((q >= self._arm.q_low) & (q <= self._arm.q_high)).all():
            raise Error(f"joint angles {np.round(q, 3)} rad are outside of an {self._arm.name}'s")
        self._configure(state)
        self._check_rest()
        self._control = self._tell("torque control", self._robot.start_torque_control)
        self._sent[:] = 0.0
        self.wait()
        if self._control is None or self._fresh is None:
            raise DeviceLost(f"the robot ended the motion as it began ({self._fault.name})")
        self._read(self._fresh, 1)
        self._echoes[:] = self._reading[R.held : R.held + 7]
        self._anchor(self._hand.width if self._hand is not None else 0.0)
        self._torque[:] = 0.0
        self._send()
        self._elapsed = 0

    def end(self) -> None:
        """End control as the robot ends it: it brakes and holds the arm. Nothing if none runs."""
        control, self._control = self._control, None
        if control is None:
            return
        last = self._library.Torques(self._sent.tolist())
        last.motion_finished = True
        try:
            control.readOnce()
            control.writeOnce(last)
        except (RuntimeError, ValueError) as error:
            log.warning("the motion did not end cleanly: %s", error)
            self._halt()
        self.state[S.mode] = Mode.IDLE

    def recover(self) -> None:
        """Leave a fault, because a person asked for it; nothing moves before the next `reset`.

        Raises:
            DeviceLost: No robot answers, or its stop or guiding buttons are pressed.
            ProtocolMismatch: This host is read-only.
            Error: The robot refuses.
        """
        if self.readonly:
            raise ProtocolMismatch("this host is read-only: it never commands the robot")
        if self._fault == Fault.ROBOT_LOST:
            self._connect()
        self.end()
        state = self._robot.read_once()
        if _mode(state) == "UserStopped":
            raise DeviceLost("the user stop is pressed: release it, then recover again")
        if _mode(state) == "Guiding":
            raise DeviceLost("a person guides the arm: let go of its handles, then recover again")
        if _mode(state) == "Reflex":
            self._tell("recovery", self._robot.automatic_error_recovery)
            state = self._robot.read_once()
        if _mode(state) != "Idle":
            raise DeviceLost(f"the robot is in mode {_mode(state)} after recovery; {_REMEDY}")
        log.info("recovered from %s, because a person asked for it", self._fault.name)
        self._fault, self._last_time = Fault.NONE, state.time.to_sec()
        self.state[S.mode], self.state[S.fault] = Mode.IDLE, Fault.NONE

    def close(self) -> None:
        """End control and let go of the robot; safe to call twice."""
        self.end()
        self._robot = self._dynamics = self._fresh = None  # the library hangs up when they are gone
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    # ---- inside

    def _connect(self) -> None:
        library, config = self._library, self.config
        kinds = library.RealtimeConfig
        self._robot = self._dynamics = None  # the robot takes one connection at a time
        try:
            self._robot = library.Robot(
                config.address, kinds.kEnforce if config.realtime else kinds.kIgnore
            )
            state = self._robot.read_once()
            dynamics = self._robot.load_model()
            mass = matrix(dynamics.mass(state), 7)
        except library.RealtimeException as error:
            raise DeviceLost(
                f"{error}; use a PREEMPT_RT kernel, or [franka] realtime = false to try without"
            ) from None
        except library.NetworkException as error:
            raise DeviceLost(f"no robot answers at {config.address}: {error}") from None
        except RuntimeError as error:
            if "ncompatible" in str(error):
                raise ProtocolMismatch(
                    f"the robot at {config.address} is no {config.model!r} that pylibfranka "
                    f"{library.__version__} can speak to: {error}"
                ) from None
            raise DeviceLost(f"the robot at {config.address} refuses: {error}") from None
        check_kinematics(state, config)
        check_mass(state, mass, config)
        self._dynamics = dynamics
        self._reading[R.mass : R.mass + 49] = mass.ravel()
        self._last_time = state.time.to_sec()
        self._fault = Fault.NONE
        self._read(state, 1)
        self._look(state)

    def _configure(self, state: Any) -> None:
        c = self.config
        wanted = tool_frame(c)
        if not np.allclose(matrix(state.F_T_EE), wanted, atol=1e-5):
            nominal = np.linalg.inv(matrix(state.F_T_NE)) @ wanted
            self._tell("the tool's frame", self._robot.set_EE, _column_major(nominal))
        self._tell("the stiffness frame", self._robot.set_K, _column_major(np.eye(4)))
        self.set_load(c.load_mass, np.array(c.load_centre), load_inertia(c))
        force = [
            [f] * 3 + [m] * 3
            for f, m in (
                (c.contact_force, c.contact_moment),
                (c.collision_force, c.collision_moment),
            )
        ]
        self._tell(
            "collision behaviour",
            self._robot.set_collision_behavior,
            [c.contact_torque] * 7,
            [c.collision_torque] * 7,
            *force,
        )
        for _ in range(_TAKES_EFFECT):
            state = self._robot.read_once()
        if not np.allclose(matrix(state.F_T_EE), wanted, atol=1e-4):
            raise Error(
                f"the robot's tool is at {np.round(matrix(state.F_T_EE)[:3, 3], 4)} m from the "
                f"flange, the config's at {np.round(wanted[:3, 3], 4)} m; set it in Desk"
            )
        check_kinematics(state, c)
        tip = matrix(state.O_T_EE)[:3, 3] - pose_of(np.array(state.q), c.tool)[:3]
        if not np.linalg.norm(tip) <= c.position_tolerance:
            raise Error(f"the robot's tool is {np.round(1e3 * tip, 2)} mm from ours")

    def _check_rest(self) -> None:
        count = max(1, round(1e3 * self.config.rest_time))
        wrench = np.zeros(6)
        for _ in range(count):
            wrench += wrench_on_tool(self._robot.read_once().O_F_ext_hat_K)
        check_rest(wrench / count, self.config)

    def _tell(self, what: str, call: Any, *arguments: Any) -> Any:
        library = self._library
        try:
            return call(*arguments)
        except library.NetworkException as error:
            self._lose_robot(error)
            raise DeviceLost(f"the robot is gone: {error}") from None
        except (library.CommandException, library.InvalidOperationException) as error:
            raise Error(f"the robot refused {what}: {error}") from None

    def _require_health(self) -> None:
        if self._fault != Fault.NONE or self.state[S.mode] == Mode.FAULT:
            fault = Fault(int(self.state[S.fault]))
            raise DeviceLost(f"the robot stopped ({fault.name}); {_REMEDY}")

    def _anchor(self, gripper: float) -> None:
        self.state = initial_state(self.params, self._reading[R.q : R.q + 7].copy())
        self.state[S.gripper] = gripper
        self.state[S.torque : S.torque + 7] = self._sent
        self._mailbox[:] = empty_mailbox()

    def _read(self, state: Any, elapsed: int) -> None:
        reading = self._reading
        reading[R.q : R.q + 7] = state.q
        reading[R.dq : R.dq + 7] = state.dq
        reading[R.held : R.held + 7] = state.tau_J_d
        reading[R.wrench : R.wrench + 6] = state.O_F_ext_hat_K
        reading[R.wrench : R.wrench + 6] *= -1.0  # as `wrench_on_tool`, without an allocation
        reading[R.elapsed] = elapsed

    def _answer(self) -> None:
        start = time.perf_counter()
        state, self._fresh = self._fresh, None
        elapsed, self._elapsed = self._elapsed, 0
        self._time += elapsed
        if state is None:
            self.state[S.mode], self.state[S.fault] = Mode.FAULT, self._fault
            self.state[S.tick] += 1.0
            return
        reading = self._reading
        self._read(state, elapsed)
        if self._control is None:
            self._look(state)
        else:
            echoes = self._echoes
            for _ in range(min(elapsed, _ECHOES)):
                echoes[1:] = echoes[:-1]
                echoes[0] = reading[R.held : R.held + 7]
            reading[R.acted : R.acted + 7] = echoes[self.config.delay]
            if int(self.state[S.tick]) % _MASS_EVERY == 0:
                reading[R.mass : R.mass + 49] = self._dynamics.mass(state)  # symmetric
            advance(self.params, self.state, reading, self._mailbox, self._torque)
            if self.state[S.fault] in (Fault.STATE_NOT_FINITE, Fault.STATE_JUMP):
                # what can't be trusted can't be damped: the robot's own stop is better
                self._fault = Fault(int(self.state[S.fault]))
                log.error("%s: the robot stops by itself", self._fault.name)
                self._halt()
            else:
                self._send()
        row = self.trace[self._count % _TRACE_LENGTH]
        record(row, 1e-3 * self._time, self.state, reading, self._sent)
        self._count += 1
        self._tick_us = (time.perf_counter() - start) * 1e6
        if self._hand is not None:
            self._ask_hand(self.state[S.gripper])
        if not self.simulated and self._count % _PICTURE_EVERY == 0:
            self.data.qpos[:7] = reading[R.q : R.q + 7]
            mujoco.mj_kinematics(self.model, self.data)

    def _send(self) -> None:
        held = self._reading[R.held : R.held + 7]
        guard(self._torque, held, self._sent, _RATE)
        self._sent[:] = self._torque
        try:
            self._control.writeOnce(self._library.Torques(self._torque.tolist()))
        except self._library.ControlException as error:
            self._lose_control(error)
        except self._library.NetworkException as error:
            self._lose_robot(error)

    def _look(self, state: Any) -> None:
        """Take note of a state outside control."""
        s, reading = self.state, self._reading
        forward(
            reading[R.q : R.q + 7], self.params[P.tool : P.tool + 3], s[S.pose :], self._jacobian
        )
        s[S.twist : S.twist + 6] = self._jacobian @ reading[R.dq : R.dq + 7]
        s[S.q : S.q + 7] = reading[R.q : R.q + 7]
        s[S.target : S.target + 7] = s[S.pose : S.pose + 7]
        s[S.tick] += 1.0
        s[S.ticks] += 1.0
        fault = self._fault or fault_of(_mode(state), str(state.current_errors))
        s[S.mode], s[S.fault] = Mode.FAULT if fault else Mode.IDLE, fault

    def _go(self, q: np.ndarray) -> None:
        """Move to joint angles: up, across and down, at `reset_speed`."""
        self._anchor(self.state[S.gripper])
        self.state[S.posture : S.posture + 7] = q
        here, goal = self.state[S.pose : S.pose + 7].copy(), pose_of(q, self.tool)
        high = max(here[2] + self.config.reset_lift, goal[2])
        high = min(high, max(self.control.box_high[2], goal[2]))
        points = [np.array([*here[:2], high]), np.array([*goal[:2], high]), goal[:3]]
        step = self.config.reset_speed / self.control_hz
        at, seq = here[:3], 0
        for point in points:
            while (left := float(np.linalg.norm(point - at))) > 0.0:
                at = point if left <= step else at + (point - at) * (step / left)
                seq += 1
                self._request(seq, at, goal[3:])
        for _ in range(round(2.0 * self.control_hz)):
            seq += 1
            snapshot = self._request(seq, at, goal[3:])
            if np.linalg.norm(snapshot.position - at) < _ARRIVED:
                return
        raise Error(
            f"the reset ended {1e3 * np.linalg.norm(snapshot.position - at):.0f} mm from its goal: "
            "something is in the way, or the goal is outside of [control] box_low..box_high"
        )

    def _request(self, seq: int, position: np.ndarray, quaternion: np.ndarray) -> Snapshot:
        self.heartbeat_age = 0.0
        request = Request(seq, Source.SCRIPT, position, quaternion, float(self.state[S.gripper]))
        snapshot = self.run(request, self.period)
        if snapshot.mode in (Mode.FAULT, Mode.SOFT_STOP, Mode.IDLE):
            raise DeviceLost(
                f"the reset was ended by {Fault(snapshot.fault).name}, arm in "
                f"{Mode(snapshot.mode).name}; {_REMEDY}"
            )
        return snapshot

    def _ask_hand(self, width: float) -> None:
        if self._hand is None:
            return
        self._hand.poll()
        if abs(width - self._asked_width) > 1e-4:
            self._hand.ask(float(width))
            self._asked_width = float(width)

    def _halt(self) -> None:
        self._control = None
        try:
            self._robot.stop()
        except RuntimeError as error:
            log.error("the robot did not take our stop: %s", error)

    def _lose_control(self, error: Exception) -> None:
        """Take note that the robot has ended the motion; it holds the arm now."""
        self._control = None
        log.error("the robot ended the motion: %s", " ".join(str(error).split()))
        try:
            state = self._robot.read_once()
        except RuntimeError as lost:
            self._lose_robot(lost)
            return
        errors = f"{state.last_motion_errors}{state.current_errors}{error}"
        self._fault = fault_of(_mode(state), errors) or Fault.ROBOT_REFLEX
        self._fresh, self._last_time = state, state.time.to_sec()
        self._elapsed = max(1, self._elapsed)

    def _lose_robot(self, error: Exception) -> None:
        if self._fault != Fault.ROBOT_LOST:
            log.error("the connection to the robot is gone: %s", error)
        self._control, self._fresh, self._fault = None, None, Fault.ROBOT_LOST


_REMEDY = "see to the robot, then let a person ask for recovery (docs/franka.md)"


def _mode(state: Any) -> str:
    return str(state.robot_mode.name)


def _column_major(frame: np.ndarray) -> list[float]:
    return frame.ravel(order="F").tolist()
