"""The wire to a Franka: beginning, ending and recovering control, and its 1 kHz; no control law.

On the 1 kHz path nothing raises: `read` and `write` leave a fault behind and no control.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from controllers.robot import Fault
from handrail.errors import DeviceLost, Error, ProtocolMismatch
from robot_env.arms.franka.checks import check_library, check_rest, fault_of
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.library import connect
from robot_env.arms.franka.setup import configure, flat, resting_wrench
from robot_env.arms.panda_models import ARMS
from robot_env.scheduling import PeriodicTimer

log = logging.getLogger("host")

REMEDY = "see to the robot, then let a person ask for recovery (docs/franka.md)"
_LONGEST = 100  # [ticks] between two states outside control that are believed


class FrankaConnection:
    """Owns the connection. The robot takes one at a time and loses it when this is closed."""

    def __init__(self, config: FrankaConfig, library: Any, readonly: bool) -> None:
        """Connect and check that this is the robot that the config means.

        Args:
            config: Table [franka].
            library: pylibfranka, or `mock.library.FakeLibrary`.
            readonly: Read states and never command.

        Raises:
            DeviceLost: No robot answers.
            ProtocolMismatch: Library and robot speak different protocols.
            ConfigError: It is another model of arm.
            Error: Our model of the arm is not the robot's.
        """
        check_library(library.__version__, config.model)
        self.config, self.readonly = config, readonly
        self.arm = ARMS[config.model]
        self.fault = Fault.NONE  # why the robot is not ours; left by `recover` only
        self.late = 0  # states that were missed while in control
        self.state: Any = None  # newest `RobotState`
        self._library = library
        self._robot: Any = None
        self._dynamics: Any = None
        self._control: Any = None
        self._time = 0.0  # [s] of the robot's clock at the newest state outside control
        self._backup = PeriodicTimer(1e-3)  # paces the loop while there is no robot
        try:
            self._connect()
        except Error:
            self.close()  # whoever tries again must find the robot free
            raise

    @property
    def active(self) -> bool:
        """Whether torques are taken."""
        return self._control is not None

    def mass(self) -> np.ndarray:
        """Return the robot's own mass matrix at the newest state, flat (49,) [kg m^2]."""
        return np.array(self._dynamics.mass(self.state))  # symmetric: either order

    # ---- 1 kHz

    def read(self) -> int:
        """Wait for the next state; return the ticks since the last one, at least 1.

        `state` is None while there is no robot.
        """
        try:
            if self._control is not None:
                self.state, duration = self._control.readOnce()
                elapsed = max(1, round(1e3 * duration.to_sec()))
                self.late += elapsed - 1
                return elapsed
            if self.fault != Fault.ROBOT_LOST:
                self.state = self._robot.read_once()
                now = self.state.time.to_sec()
                elapsed, self._time = round(1e3 * (now - self._time)), now
                return min(max(1, elapsed), _LONGEST)
        except self._library.ControlException as error:
            self._lose_control(error)
            return 1
        except (self._library.NetworkException, self._library.InvalidOperationException) as error:
            self._lose_robot(error)
        return self._backup.wait()

    def write(self, torque: np.ndarray) -> None:
        """Answer the newest state.

        Args:
            torque: Finite, shape (7,), without gravity [N m].
        """
        try:
            self._control.writeOnce(self._library.Torques(torque.tolist()))
        except self._library.ControlException as error:
            self._lose_control(error)
        except self._library.NetworkException as error:
            self._lose_robot(error)

    def halt(self, why: Fault) -> None:
        """Have the robot stop by itself: what can't be trusted can't be damped."""
        self.fault = why
        log.error("%s: the robot stops by itself", why.name)
        self._stop()

    def fault_now(self) -> Fault:
        """Return why the robot is not ours, which may pass by itself outside control."""
        if self.fault != Fault.NONE or self.state is None:
            return self.fault
        return fault_of(_mode(self.state), str(self.state.current_errors))

    # ---- between motions

    def begin(self) -> None:
        """Configure, check at rest, begin torque control, read its first state.

        Raises:
            DeviceLost: The robot is not idle.
            ProtocolMismatch: This host is read-only.
            Error: A check failed; the message says which.
        """
        if self.readonly:
            raise ProtocolMismatch("this host is read-only: it never begins control")
        state = self._robot.read_once()
        if _mode(state) != "Idle":
            raise DeviceLost(f"the robot is in mode {_mode(state)}, not Idle; {REMEDY}")
        q = np.array(state.q)
        if not ((q >= self.arm.joints.low) & (q <= self.arm.joints.high)).all():
            raise Error(f"joint angles {np.round(q, 3)} rad are outside of an {self.arm.name}'s")
        configure(self._robot, state, self.config, self._tell)
        check_rest(resting_wrench(self._robot, self.config.rest_time), self.config)
        self._control = self._tell("torque control", self._robot.start_torque_control)
        self.read()
        if self._control is None:
            raise DeviceLost(f"the robot ended the motion as it began ({self.fault.name})")

    def end(self, torque: np.ndarray) -> None:
        """End control as the robot ends it: it brakes and holds the arm. Nothing if none runs.

        Args:
            torque: Last one sent, shape (7,) [N m].
        """
        control = self._control
        if control is None:
            return
        last = self._library.Torques(torque.tolist())
        last.motion_finished = True
        try:
            control.readOnce()
            control.writeOnce(last)
            self._control = None
        except (RuntimeError, ValueError) as error:
            log.warning("the motion did not end cleanly: %s", error)
            self._stop()

    def recover(self) -> None:
        """Leave a fault; nothing moves by that.

        Raises:
            DeviceLost: No robot answers, or its stop or guiding buttons are pressed.
            ProtocolMismatch: This host is read-only.
            Error: The robot refuses.
        """
        if self.readonly:
            raise ProtocolMismatch("this host is read-only: it never commands the robot")
        if self.fault == Fault.ROBOT_LOST:
            self._connect()
        state = self._robot.read_once()
        if _mode(state) == "UserStopped":
            raise DeviceLost("the user stop is pressed: release it, then recover again")
        if _mode(state) == "Guiding":
            raise DeviceLost("a person guides the arm: let go of its handles, then recover again")
        if _mode(state) == "Reflex":
            self._tell("recovery", self._robot.automatic_error_recovery)
            state = self._robot.read_once()
        if _mode(state) != "Idle":
            raise DeviceLost(f"the robot is in mode {_mode(state)} after recovery; {REMEDY}")
        log.info("recovered from %s, because a person asked for it", self.fault.name)
        self.state, self.fault, self._time = state, Fault.NONE, state.time.to_sec()

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
        self._tell("the load", self._robot.set_load, mass, list(centre), flat(inertia))

    def close(self) -> None:
        """Let go of the robot; safe to call twice."""
        # the library hangs up when its objects are gone
        self._control = self._robot = self._dynamics = self.state = None

    # ---- inside

    def _connect(self) -> None:
        self.close()
        self._robot, self.state, self._dynamics = connect(self.config, self._library)
        self._time = self.state.time.to_sec()

    def _tell(self, what: str, call: Any, *arguments: Any) -> Any:
        library = self._library
        try:
            return call(*arguments)
        except library.NetworkException as error:
            self._lose_robot(error)
            raise DeviceLost(f"the robot is gone: {error}") from None
        except (library.CommandException, library.InvalidOperationException) as error:
            raise Error(f"the robot refused {what}: {error}") from None

    def _stop(self) -> None:
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
            self.state = self._robot.read_once()
        except RuntimeError as lost:
            self._lose_robot(lost)
            return
        errors = f"{self.state.last_motion_errors}{self.state.current_errors}{error}"
        self.fault = fault_of(_mode(self.state), errors) or Fault.ROBOT_REFLEX
        self._time = self.state.time.to_sec()

    def _lose_robot(self, error: Exception) -> None:
        if self.fault != Fault.ROBOT_LOST:
            log.error("the connection to the robot is gone: %s", error)
        self._control, self.state, self.fault = None, None, Fault.ROBOT_LOST


def _mode(state: Any) -> str:
    return str(state.robot_mode.name)
