"""The shipped suites over our cameras, operator and gymnasium environments; they can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from controllers.config import ControlConfig
from robot_env.arms.sim.config import MujocoConfig
from robot_env.cameras.sim import SimCameras
from robot_env.env import RobotEnv
from robot_env.gym.config import GymConfig
from robot_env.gym.env import GymEnv
from robot_env.gym.task import GymTask
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig
from robot_env.teleop.scripted import OperatorConfig, ScriptedOperator
from robot_env.testing import (
    CameraConformance,
    EnvConformance,
    GymEnvConformance,
    IntervenerConformance,
)

KIT = Path(__file__).resolve().parents[2] / "kit"


class TestSimCameras(CameraConformance):
    @pytest.fixture
    def cameras(self):
        import mujoco  # after MUJOCO_GL is set

        model = mujoco.MjModel.from_xml_string(make("pick").scene())  # type: ignore[attr-defined]
        data = mujoco.MjData(model)  # type: ignore[attr-defined]
        mujoco.mj_forward(model, data)  # type: ignore[attr-defined]
        made = SimCameras(model, data, 64)
        yield made
        made.close()


class TestScriptedOperator(IntervenerConformance):
    @pytest.fixture
    def env(self):
        task = make("peg")
        env = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
        yield env
        env.close()

    @pytest.fixture
    def intervener(self, env):
        return ScriptedOperator(env.task, OperatorConfig(enabled=True), seed=0)


class TestPendulumAsAnEnvironment(EnvConformance):
    @pytest.fixture
    def env(self):
        env = GymEnv(GymTask(TaskConfig(name="gym:Pendulum-v1"), GymConfig()))
        yield env
        env.close()


class TestPendulum(GymEnvConformance):
    name = "gym:Pendulum-v1"


class _BadCameras:
    """Gives one buffer again and again, in the wrong kind."""

    def images(self):
        return {"front": np.zeros((8, 8, 3), np.float32)}

    def render(self, camera, width, height):
        return np.zeros((width, height, 3), np.uint8)

    def close(self):
        """Do nothing."""


def test_each_suite_fails_on_what_is_wrong(monkeypatch):
    suite, cameras = CameraConformance(), _BadCameras()
    with pytest.raises(AssertionError):
        suite.test_images_are_colour_bytes_of_their_own(cameras)
    with pytest.raises(AssertionError):
        suite.test_a_picture_has_the_size_that_was_asked(cameras)
    with pytest.raises(AssertionError, match="no_such_camera"):
        suite.test_a_camera_that_is_not_there_is_an_error_with_its_name(cameras)
    monkeypatch.chdir(KIT)
    monkeypatch.setenv("PYTHONPATH", str(KIT.parents[1]))
    gym = GymEnvConformance()
    monkeypatch.setattr(GymEnvConformance, "name", "gym:odd_envs:Odd-v0", raising=False)
    monkeypatch.setattr(GymEnvConformance, "config", GymConfig(kwargs={"fault": "shape"}))
    with pytest.raises(ValueError, match="step 2 returned the observation"):
        gym.test_it_behaves_to_the_end_of_an_episode()


def test_nothing_shipped_needs_pytest():
    program = "import sys; sys.modules['pytest'] = None; import robot_env.testing"
    subprocess.run([sys.executable, "-c", program], check=True)
