"""The three backends as one kind of rig, and a witness of all that goes to and from a Franka."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
from past_ticks import remembering

from controllers.config import ControlConfig
from controllers.packed import pack_params
from controllers.robot import Request, Snapshot
from robot_env.arms.base import reach_pose
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.library import load_library
from robot_env.arms.franka.mock.library import MockLibrary
from robot_env.arms.franka.mock.world import World
from robot_env.arms.franka.robot import FrankaRobot
from robot_env.arms.panda_mjcf import bare_arm, build_scene
from robot_env.arms.panda_models import FR3
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot
from robot_env.tasks.base import DOWN, HOME

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / ".venv-franka" / "bin" / "python"
PORT = 21001  # of the server's control door
START = np.array([0.5, 0.0, 0.3])
WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3"/>'
FREE = reach_pose(pack_params(ControlConfig(), 10.0), START, DOWN, HOME)  # [rad], off the wall
# mass-free: where franka-sim looks for the end effector, it wants a body called link7
FLANGE = (
    '<body name="flange" pos="0 0 0.107"><inertial mass="1e-6" pos="0 0 0" '
    'diaginertia="1e-9 1e-9 1e-9"/></body>'
)


class Witness:
    """A library whose robot's states and commands are written down, and can be falsified."""

    def __init__(self, library: Any) -> None:
        self.inner = library
        self.told: list[str] = []  # everything but reading that was asked of the robot
        self.states: list[tuple[np.ndarray, np.ndarray]] = []  # q and echoed torque, in control
        self.commands: list[tuple[np.ndarray, np.ndarray]] = []  # torque, and the echo before it
        self.falsify: Callable[[Any], None] = lambda state: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def Robot(self, *arguments: Any) -> Any:  # noqa: N802 - the library's name
        return _Robot(self.inner.Robot(*arguments), self)


class _Robot:
    def __init__(self, inner: Any, witness: Witness) -> None:
        self._inner, self._witness = inner, witness

    def __getattr__(self, name: str) -> Any:
        if name not in ("load_model", "state"):
            self._witness.told.append(name)
        return getattr(self._inner, name)

    def read_once(self) -> Any:
        state = self._inner.read_once()
        self._witness.falsify(state)
        return state

    def start_torque_control(self) -> Any:
        self._witness.told.append("start_torque_control")
        return _Control(self._inner.start_torque_control(), self._witness)


class _Control:
    def __init__(self, inner: Any, witness: Witness) -> None:
        self._inner, self._witness = inner, witness
        self._echo = np.zeros(7)

    def readOnce(self) -> Any:  # noqa: N802 - the library's name
        state, duration = self._inner.readOnce()
        self._echo = np.array(state.tau_J_d)
        self._witness.states.append((np.array(state.q), self._echo))
        self._witness.falsify(state)
        return state, duration

    def writeOnce(self, command: Any) -> None:  # noqa: N802 - the library's name
        if not command.motion_finished:
            self._witness.commands.append((np.array(command.tau_J), self._echo))
        self._inner.writeOnce(command)


class Rig(NamedTuple):
    """A robot and what can be done to it from outside."""

    kind: str
    robot: Any
    witness: Any = None  # Witness, of a Franka
    world: Any = None  # World, of the mock
    lose: Callable[[int], None] = lambda count: None  # the next states of the robot


def make_mujoco() -> Iterator[Rig]:
    control = ControlConfig()
    robot = MujocoRobot(build_scene(WALL, gripper=False), MujocoConfig(), control, 10.0)
    remembering(robot)
    yield Rig("mujoco", robot)


def make_mock(config: FrankaConfig | None = None, **world: Any) -> Iterator[Rig]:
    config = config or FrankaConfig()
    place = World(build_scene(WALL, gripper=False), **{"q": FREE, **world})
    witness = Witness(MockLibrary(place))
    robot = FrankaRobot(
        config, ControlConfig(), 10.0, witness, place.model, place.data, world=place
    )
    if world.get("paced"):
        robot.warm_up()  # as the host does: loading compiled code is late for several states
    yield Rig("mock", robot, witness, place, place.lose_states)
    robot.close()


def make_franka_sim(config: FrankaConfig) -> Iterator[Rig]:
    """Connect to the server that `serve` has started."""
    model = mujoco.MjModel.from_xml_string(build_scene("", gripper=False))  # type: ignore[attr-defined]
    witness = Witness(load_library())
    data = mujoco.MjData(model)  # type: ignore[attr-defined]
    robot = FrankaRobot(config, ControlConfig(), 10.0, witness, model, data)
    robot.warm_up()
    gc.collect()
    gc.disable()  # as the host does: a collection is late for several states
    with socket.create_connection(("127.0.0.1", PORT)) as door:
        yield Rig("franka-sim", robot, witness, None, lambda count: say(door, f"lose {count}"))
    robot.close()
    gc.enable()


def say(door: socket.socket, line: str) -> None:
    door.sendall(line.encode() + b"\n")
    assert door.recv(1) == b"\n"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[None]:
    """Run a franka-sim server with our arm."""
    mjcf = folder / "fr3.xml"
    text = bare_arm(FR3, FLANGE).replace('"link7"', '"wrist"').replace('"flange"', '"link7"')
    mjcf.write_text(text, encoding="utf-8")
    log = open(folder / "franka-sim.log", "w", encoding="utf-8")  # noqa: SIM115 - closed below
    server = subprocess.Popen(
        [str(SERVER), str(ROOT / "tests" / "kit" / "franka_server.py"), str(mjcf), str(PORT)],
        stderr=log,
    )
    try:
        end = time.monotonic() + 60.0
        while True:
            assert server.poll() is None, (folder / "franka-sim.log").read_text()
            assert time.monotonic() < end, "franka-sim did not come up"
            try:
                with socket.create_connection(("127.0.0.1", PORT)) as door:
                    say(door, "lose 0")
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()
        log.close()


def begin(rig: Rig, at: np.ndarray = START) -> Snapshot:
    """Reset to a tool position with the tool pointing down."""
    q = rig.robot.inverse_kinematics(at, DOWN, HOME)
    return rig.robot.reset(q, 0.0, np.random.default_rng(0))


def go(rig: Rig, target: np.ndarray, ticks: int = 100) -> Snapshot:
    """Ask for a target and run one policy period."""
    seq = rig.robot.snapshot().request_seq + 1
    return rig.robot.run(Request(seq, 0, target, DOWN, 0.0), ticks)
