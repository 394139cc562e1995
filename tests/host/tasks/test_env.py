"""The environment: gymnasium's contract, flags kept apart, starts that can be named."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from controllers.config import ControlConfig
from handrail.config import from_dict
from handrail.errors import ConfigError, DeviceLost
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig


def make_env(**values: Any) -> RobotEnv:
    values = {"name": "reach"} | values
    config = from_dict(TaskConfig, values, "task")
    task = make(config.name, config)
    return RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)


@pytest.fixture(scope="module")
def env():
    env = make_env()
    yield env
    env.close()


def test_gymnasiums_passive_checker_accepts_it(env):
    checked = gymnasium.wrappers.PassiveEnvChecker(env)
    observation, _ = checked.reset(seed=0)
    for _ in range(3):
        observation, *_ = checked.step(checked.action_space.sample())
        assert checked.observation_space.contains(observation)


def test_time_running_out_is_truncation_and_never_termination(env):
    env.reset(seed=0)
    reward, info = 1.0, {}
    for t in range(env.task.spec.horizon):
        _, reward, terminated, truncated, info = env.step(np.array([0, 0, 1], np.float32))
        assert not terminated
        assert truncated == (t == env.task.spec.horizon - 1)
    assert reward == 0.0
    assert not info["success"]


def test_success_terminates_even_in_the_last_step():
    env = make_env(tolerance=10.0, horizon=1)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.zeros(3, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    env.close()


def test_a_seed_fixes_the_sequence_of_episodes(env):
    def sequence(seed: int) -> list[np.ndarray]:
        first = env.reset(seed=seed)[0]["state"]
        return [first, *(env.reset()[0]["state"] for _ in range(3))]

    assert np.array_equal(sequence(4), sequence(4))
    states = sequence(4)
    assert not np.array_equal(states[0], states[1])


def test_a_numbered_start_is_the_same_whatever_went_before(env):
    env.reset(seed=1)
    one = env.reset(options={"start": 3})[0]["state"]
    env.reset(seed=2)
    env.reset()
    two = env.reset(options={"start": 3})[0]["state"]
    assert np.array_equal(one, two)
    assert not np.array_equal(one, env.reset(options={"start": 4})[0]["state"])


def test_a_target_held_back_by_the_leash_is_reported_as_filter_delta():
    env = make_env(name="peg")
    env.reset(seed=0)
    info = {}
    for _ in range(25):
        _, _, _, _, info = env.step(np.array([0, 0, -1], np.float32))
    assert info["filter_delta"][2] > 0.5  # the block is in the way
    assert np.allclose(info["executed_action"] - info["filter_delta"], [0, 0, -1])
    assert info["force_peak"] > 5.0
    env.close()


def test_an_action_that_is_no_action_is_refused(env):
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="3 finite values"):
        env.step(np.zeros(4, np.float32))
    with pytest.raises(ConfigError, match="3 finite values"):
        env.step(np.array([0, np.nan, 0], np.float32))


def test_a_reward_can_be_handed_in():
    task = make("reach", TaskConfig(name="reach"))
    host = HostCore(task, MujocoConfig(), ControlConfig())
    env = RobotEnv(
        host, task, reward=lambda obs, action, info: -info["privileged_state"]["distance"]
    )
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.zeros(3, np.float32))
    assert reward == -info["privileged_state"]["distance"]
    env.close()


@pytest.mark.slow
def test_images_are_rendered_only_where_the_task_asks():
    env = make_env(name="pick", images=True, image_size=64)
    observation, _ = env.reset(seed=0)
    assert set(observation["images"]) == {"wrist", "front"} == set(env.task.spec.images)
    for image in observation["images"].values():
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10.0  # it shows something
    before = observation["images"]["wrist"].copy()
    for _ in range(5):
        observation, *_ = env.step(np.array([1, 0, 0, -1], np.float32))
    assert np.abs(before.astype(int) - observation["images"]["wrist"]).mean() > 1.0
    assert env.render().shape == (480, 480, 3)
    with pytest.raises(DeviceLost, match="camera 'back'"):
        env.host.render("back", 64, 64)
    env.close()


def test_no_images_no_gl(env):
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"state"}
