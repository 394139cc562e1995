"""pylibfranka's interface over a simulated world: commission the host without a robot (`--mock`).

Names, argument lists and the shapes of flat lists are the library's (0.21); so are the exceptions
and when they come. What happens in the world is `world`'s.

    library = FakeLibrary(World(build_scene("", arm=FR3)))
    robot = library.Robot("mock", library.RealtimeConfig.kIgnore)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_env.arms.franka.dynamics_model import Payload
from robot_env.arms.franka.mock.gripper import Gripper
from robot_env.arms.franka.mock.robot_state import Model, RobotState
from robot_env.arms.franka.mock.values import (
    CommandException,
    ControlException,
    Duration,
    Errors,
    InvalidOperationException,
    NetworkException,
    RealtimeConfig,
    RealtimeException,
    RobotMode,
    Torques,
    frame_of,
    sized,
)
from robot_env.arms.franka.mock.world import World

VERSION = "0.21.3"  # of the library whose interface this is


class ActiveControl:
    """A running torque control."""

    def __init__(self, robot: Robot) -> None:
        self._robot, self._world = robot, robot.world
        self._finished = False

    def readOnce(self) -> tuple[RobotState, Duration]:  # noqa: N802 - the library's name
        """Wait for the next state; return it and the time since the last one.

        Raises:
            ControlException: The motion was aborted.
        """
        cycles = self._world.cycle()
        self._check()
        return self._robot.state(), Duration(cycles)

    def writeOnce(self, command: Torques) -> None:  # noqa: N802 - the library's name
        """Answer the newest state.

        Raises:
            ValueError: A value is not finite.
            ControlException: The motion was aborted.
        """
        if not np.isfinite(command.tau_J).all():
            raise ValueError("Commanding value is infinite or NaN.")
        self._check()
        if command.motion_finished:
            self._finished = True
            self._world.end()
            return
        self._world.answer(np.array(command.tau_J))

    def _check(self) -> None:
        world = self._world
        if self._finished:
            raise ControlException("libfranka: control was finished already")
        if world.motion:
            return
        why = "by reflex" if world.mode == "Reflex" else f"in mode {world.mode}"
        raise ControlException(
            f"libfranka: Move command aborted: motion aborted {why}! {Errors(world.last_errors)}"
        )


class Robot:
    """A connection to the control box."""

    def __init__(self, world: World, address: str, realtime: RealtimeConfig) -> None:
        self.world, self.address, self.realtime = world, address, realtime
        self._ee = np.eye(4)

    def state(self) -> RobotState:
        """Return the state as it is now; the library has no such method."""
        return RobotState(self.world, self._ee, self.world.load)

    def read_once(self) -> RobotState:
        """Wait for the next state and return it."""
        self._refuse_while_moving("read_once")
        self.world.cycle()
        return self.state()

    def load_model(self) -> Model:
        """Return the robot's dynamics."""
        return Model(self.world)

    def start_torque_control(self) -> ActiveControl:
        """Begin torque control.

        Raises:
            CommandException: The robot is not idle.
        """
        if self.world.mode != "Idle":
            raise CommandException(
                "libfranka: Move command rejected: command not possible in the current mode "
                f'("{self.world.mode}")!'
            )
        self.world.begin()
        return ActiveControl(self)

    def stop(self) -> None:
        """Stop the running motion."""
        if self.world.motion:
            self.world.end()

    def automatic_error_recovery(self) -> None:
        """Leave the reflex.

        Raises:
            CommandException: The robot is in none.
        """
        if self.world.mode != "Reflex":
            raise CommandException(
                "libfranka: Automatic error recovery command rejected: command not possible in "
                f'the current mode ("{self.world.mode}")!'
            )
        self.world.mode, self.world.errors = "Idle", set()

    def set_collision_behavior(
        self,
        lower_torque_thresholds: Sequence[float],
        upper_torque_thresholds: Sequence[float],
        lower_force_thresholds: Sequence[float],
        upper_force_thresholds: Sequence[float],
    ) -> None:
        """Take thresholds note of; nothing collides by them here."""
        self._refuse_while_moving("set_collision_behavior")
        for values, size in (
            (lower_torque_thresholds, 7),
            (upper_torque_thresholds, 7),
            (lower_force_thresholds, 6),
            (upper_force_thresholds, 6),
        ):
            sized(values, size)

    def set_load(self, mass: float, centre: Sequence[float], inertia: Sequence[float]) -> None:
        """Tell the robot what it carries; arguments as the library's, by position.

        Raises:
            CommandException: A motion is running.
        """
        if self.world.motion:
            raise CommandException(
                "libfranka: Set Load command rejected: command not possible in the current mode "
                '("Move")!'
            )
        self.world.load = Payload(
            mass, sized(centre, 3), sized(inertia, 9).reshape(3, 3, order="F")
        )

    def set_EE(self, frame: Sequence[float]) -> None:  # noqa: N802 - the library's name
        """Set the end effector's frame in the nominal one, 16 values column-major."""
        self._refuse_while_moving("set_EE")
        self._ee = frame_of(frame)

    def set_K(self, frame: Sequence[float]) -> None:  # noqa: N802 - the library's name
        """Set the stiffness frame in the end effector's; only the identity is known here."""
        self._refuse_while_moving("set_K")
        if not np.allclose(frame_of(frame), np.eye(4)):
            raise CommandException("the mock knows the identity as stiffness frame only")

    def _refuse_while_moving(self, what: str) -> None:
        if self.world.motion:
            raise InvalidOperationException(
                f"libfranka robot: Cannot perform {what} while a control loop is running."
            )


class MockLibrary:
    """The library as a backend sees it: `library.Robot(address, realtime)` and so on."""

    __version__ = VERSION
    NetworkException = NetworkException
    ControlException = ControlException
    CommandException = CommandException
    RealtimeException = RealtimeException
    InvalidOperationException = InvalidOperationException
    RobotMode = RobotMode
    RealtimeConfig = RealtimeConfig
    Torques = Torques
    Duration = Duration
    Errors = Errors

    def __init__(self, world: World) -> None:
        """Stand before a world."""
        self.world = world

    def Robot(self, address: str, realtime: RealtimeConfig = RealtimeConfig.kEnforce) -> Robot:  # noqa: N802
        """Return a connection."""
        return Robot(self.world, address, realtime)

    def Gripper(self, address: str) -> Gripper:  # noqa: N802 - the library's name
        """Return a connection to the hand."""
        return Gripper(self.world, address)
