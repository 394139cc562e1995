"""The gripper of a Franka: limited force, and a process of its own."""

import os
import time

from backends import (
    ROOT,
)

from controllers.config import ControlConfig
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.gripper import HandProcess, HandThread
from robot_env.arms.franka.mock.library import MockLibrary
from robot_env.arms.franka.mock.world import World
from robot_env.arms.franka.robot import FrankaRobot
from robot_env.arms.panda_mjcf import build_scene
from robot_env.tasks.base import HOME


def test_a_hand_closes_with_limited_force_and_opens():
    world = World(build_scene("", gripper=True), q=HOME)
    library = MockLibrary(world)
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
