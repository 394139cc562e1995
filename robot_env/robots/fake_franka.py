"""pylibfranka's interface over a simulated world: commission the host without a robot (`--mock`).

Names, argument lists and the shapes of flat lists are the library's (0.21); so are the exceptions
and when they come. What happens in the world is `fake_world`'s.

    library = FakeLibrary(World(scene("", arm=FR3)))
    robot = library.Robot("mock", library.RealtimeConfig.kIgnore)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from controllers.kinematics import forward
from robot_env.robots.fake_world import World
from robot_env.robots.model import HAND_IN_FLANGE, Payload, combine, flange_pose

VERSION = "0.21.3"  # of the library whose interface this is

_JOINTS = 7


class NetworkException(RuntimeError):
    """The connection is gone or was refused."""


class ControlException(RuntimeError):
    """A motion was aborted."""


class CommandException(RuntimeError):
    """The robot refused a command."""


class RealtimeException(RuntimeError):
    """The system can't give what real time needs."""


class InvalidOperationException(RuntimeError):
    """An operation that is not allowed now."""


class RobotMode(IntEnum):
    """What the robot is doing."""

    Other = 0
    Idle = 1
    Move = 2
    Guiding = 3
    Reflex = 4
    UserStopped = 5
    AutomaticErrorRecovery = 6


class RealtimeConfig(IntEnum):
    """Whether the library insists on a real-time system."""

    kEnforce = 0  # noqa: N815 - the library's name
    kIgnore = 1  # noqa: N815 - the library's name


class Duration:
    """Time of the robot's clock."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def to_sec(self) -> float:
        """Return seconds [s]."""
        return self._milliseconds * 1e-3


class Errors:
    """Which errors are set; every one of them is an attribute."""

    def __init__(self, names: set[str] | None = None) -> None:
        self._names = sorted(names or ())

    def __getattr__(self, name: str) -> bool:
        if name.startswith("_"):
            raise AttributeError(name)
        return name in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    def __str__(self) -> str:
        return "[" + ", ".join(f'"{name}"' for name in self._names) + "]"


class Torques:
    """A command: seven torques without gravity [N m]."""

    def __init__(self, tau_J: Sequence[float]) -> None:  # noqa: N803 - the library's name
        if len(tau_J) != _JOINTS:
            raise TypeError(f"Torques takes 7 values, got {len(tau_J)}")
        self.tau_J = [float(value) for value in tau_J]
        self.motion_finished = False


class RobotState:
    """What the robot says of one cycle; matrices are flat and column-major."""

    def __init__(self, world: World, ee_in_nominal: np.ndarray, load: Payload) -> None:
        hand = world.hand_in_flange
        q = world.q
        self.q = q.tolist()
        self.dq = world.dq.tolist()
        self.q_d, self.dq_d = list(self.q), [0.0] * 7
        self.tau_J_d = world.torque.tolist()
        self.tau_J = list(self.tau_J_d)
        # what the robot does to the environment, as on the real one
        self.O_F_ext_hat_K = (-world.wrench).tolist()
        self.F_T_NE = _flat(hand)
        self.NE_T_EE = _flat(ee_in_nominal)
        tool = hand @ ee_in_nominal
        self.F_T_EE = _flat(tool)
        self.O_T_EE = _flat(flange_pose(q) @ tool)
        self.EE_T_K = _flat(np.eye(4))
        total = combine(world.hand, load)
        self.m_ee, self.F_x_Cee = world.hand.mass, world.hand.centre.tolist()
        self.m_load, self.F_x_Cload = load.mass, load.centre.tolist()
        self.m_total, self.F_x_Ctotal = total.mass, total.centre.tolist()
        self.I_ee = world.hand.inertia.ravel(order="F").tolist()
        self.I_load = load.inertia.ravel(order="F").tolist()
        self.I_total = total.inertia.ravel(order="F").tolist()
        self.robot_mode = RobotMode[world.mode]
        self.current_errors = Errors(world.errors)
        self.last_motion_errors = Errors(world.last_errors)
        self.control_command_success_rate = world.success_rate
        self.time = Duration(world.ticks)


class Model:
    """The robot's own dynamics."""

    def __init__(self, world: World) -> None:
        self._world = world

    def mass(self, state: RobotState) -> list[float]:
        """Return the mass matrix, 49 values column-major [kg m^2]."""
        return self._world.inertia.mass(np.array(state.q), _total(state)).ravel(order="F").tolist()

    def gravity(self, state: RobotState) -> list[float]:
        """Return the torques against gravity, 7 values [N m]."""
        return self._world.inertia.gravity(np.array(state.q), _total(state)).tolist()

    def coriolis(self, state: RobotState) -> list[float]:
        """Return zeros: nothing here moves fast enough to tell."""
        return [0.0] * 7

    def zero_jacobian(self, state: RobotState) -> list[float]:
        """Return the end effector's Jacobian in the base frame, 42 values column-major."""
        pose, jacobian = np.empty(7), np.empty((6, 7))
        tool = _matrix(state.F_T_EE)
        forward(np.array(state.q), HAND_IN_FLANGE[:3, :3].T @ tool[:3, 3], pose, jacobian)
        return jacobian.ravel(order="F").tolist()


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
            _sized(values, size)

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
            mass, _sized(centre, 3), _sized(inertia, 9).reshape(3, 3, order="F")
        )

    def set_EE(self, frame: Sequence[float]) -> None:  # noqa: N802 - the library's name
        """Set the end effector's frame in the nominal one, 16 values column-major."""
        self._refuse_while_moving("set_EE")
        self._ee = _matrix(frame)

    def set_K(self, frame: Sequence[float]) -> None:  # noqa: N802 - the library's name
        """Set the stiffness frame in the end effector's; only the identity is known here."""
        self._refuse_while_moving("set_K")
        if not np.allclose(_matrix(frame), np.eye(4)):
            raise CommandException("the mock knows the identity as stiffness frame only")

    def _refuse_while_moving(self, what: str) -> None:
        if self.world.motion:
            raise InvalidOperationException(
                f"libfranka robot: Cannot perform {what} while a control loop is running."
            )


class GripperState:
    """What the hand says."""

    def __init__(self, world: World, force: float) -> None:
        self.width, self.max_width = world.width, 0.08
        self.is_grasped = force > 0.0 and world.width > 2.0 * world.grip + 0.002
        self.temperature, self.time = 30, Duration(world.ticks)


class Gripper:
    """The hand; its commands return when the fingers have come to rest."""

    def __init__(self, world: World, address: str) -> None:
        self._world, self._force = world, 0.0

    def read_once(self) -> GripperState:
        """Return the newest state."""
        return GripperState(self._world, self._force)

    def homing(self) -> bool:
        """Open."""
        return self.move(0.08, 0.1)

    def move(self, width: float, speed: float) -> bool:
        """Bring the fingers to a width without force control."""
        self._force = 0.0
        return self._go(width, 35.0)

    def grasp(
        self,
        width: float,
        speed: float,
        force: float,
        epsilon_inner: float = 0.005,
        epsilon_outer: float = 0.005,
    ) -> bool:
        """Close with a force; return whether something of that width is held."""
        self._force = force
        self._go(0.0, force)
        return width - epsilon_inner < self._world.width < width + epsilon_outer

    def stop(self) -> bool:
        """Stay where the fingers are."""
        self._world.grip = 0.5 * self._world.width
        return True

    def _go(self, width: float, force: float) -> bool:
        world = self._world
        if world.model.nu >= 9:
            world.model.actuator_forcerange[7:9] = [[-force, force]] * 2
        world.grip = 0.5 * min(max(width, 0.0), 0.08)
        begin, before = world.ticks, -1.0
        while world.ticks - begin < 1000 and abs(world.width - before) > 1e-5:
            before, now = world.width, world.ticks
            end = time.monotonic() + 0.1
            while world.ticks < now + 50 and time.monotonic() < end:
                time.sleep(0.002)
        return True


class FakeLibrary:
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


def _flat(matrix: np.ndarray) -> list[float]:
    return matrix.ravel(order="F").tolist()


def _matrix(values: Sequence[float]) -> np.ndarray:
    return _sized(values, 16).reshape(4, 4, order="F")


def _sized(values: Sequence[float], size: int) -> np.ndarray:
    array = np.array(values, np.float64)
    if array.shape != (size,):
        raise TypeError(f"a list of {size} values is wanted, got {array.shape}")
    return array


def _total(state: RobotState) -> Payload:
    return Payload(
        state.m_total, np.array(state.F_x_Ctotal), np.array(state.I_total).reshape(3, 3, order="F")
    )
