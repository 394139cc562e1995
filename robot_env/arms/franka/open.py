"""Opens a Franka, or the mock of one, for a task."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging

import mujoco

from controllers.config import ControlConfig
from handrail.errors import Error
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.gripper import HandProcess, HandThread
from robot_env.arms.franka.library import load_library
from robot_env.arms.franka.mock.library import MockLibrary
from robot_env.arms.franka.mock.world import World
from robot_env.arms.franka.robot import FrankaRobot

log = logging.getLogger("host")


def open_franka(
    config: FrankaConfig,
    control: ControlConfig,
    scene: str,
    control_hz: float,
    *,
    mock: bool,
    readonly: bool,
) -> FrankaRobot:
    """Return the robot of a task, connected and checked, at rest.

    Args:
        config: Table [franka].
        control: Table [control].
        scene: The task's, as MJCF: what the mock lives in, and what pictures of an arm show.
        control_hz: The task's policy steps [Hz].
        mock: Simulate the robot behind its interface.
        readonly: Read states and never begin control.

    Raises:
        ConfigError: pylibfranka is not installed, or as `FrankaRobot`.
        Error: As `FrankaRobot`.
    """
    force, speed = config.grip_force, config.grip_speed
    if mock:
        world = World(scene, config.model, paced=True)
        library = MockLibrary(world)
        hand = HandThread(library.Gripper("mock"), force, speed) if config.gripper else None
        return FrankaRobot(
            config, control, control_hz, library, world.model, world.data,
            world=world, hand=hand, readonly=readonly,
        )  # fmt: skip
    library = load_library()
    log.info("connecting to the %s at %s", config.model, config.address)
    model = mujoco.MjModel.from_xml_string(scene)
    hand = None
    if config.gripper and not readonly:
        hand = HandProcess(config.address, force, speed)
    try:
        return FrankaRobot(
            config,
            control,
            control_hz,
            library,
            model,
            mujoco.MjData(model),
            hand=hand,
            readonly=readonly,
        )
    except Error:
        if hand is not None:
            hand.close()
        raise
