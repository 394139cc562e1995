"""Tasks: honest truth, honest difficulty, and the same start for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from controllers.config import ControlConfig
from controllers.robot import Snapshot
from handrail.config import from_dict
from handrail.errors import ConfigError
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make, names, register, resolve
from robot_env.tasks.base import HYSTERESIS, OPEN
from robot_env.tasks.config import TaskConfig
from robot_env.testing import TaskConformance

ALL = ("reach", "peg", "pick", "assemble", "maze")


@pytest.fixture(scope="module")
def envs():
    made = {}
    for name in ALL:
        task = make(name)
        made[name] = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
    yield made
    for env in made.values():
        env.close()


@pytest.mark.parametrize("env", ALL, indirect=True)
class TestShippedTasks(TaskConformance):
    """The shipped suite, over each of ours."""

    test_expert_solves_the_task = pytest.mark.slow(TaskConformance.test_expert_solves_the_task)
    test_demonstrations_mostly_succeed_though_the_hand_errs = pytest.mark.slow(
        TaskConformance.test_demonstrations_mostly_succeed_though_the_hand_errs
    )

    @pytest.fixture
    def env(self, envs, request):
        return envs[request.param]

    @pytest.mark.slow
    def test_no_trivial_policy_solves_the_task(self, env):
        if env.task.name == "maze":
            pytest.skip("those of `maze` have a test of their own")
        super().test_no_trivial_policy_solves_the_task(env)


def test_hidden_error_of_the_hole_leaves_no_trace_in_the_observation(envs):
    env = envs["peg"]
    errors, states = [], []
    for seed in range(200):
        observation, info = env.reset(seed=seed)
        errors.append([info["privileged_state"]["offset_x"], info["privileged_state"]["offset_y"]])
        states.append(observation["state"])
    errors, states = np.array(errors), np.array(states)
    varied = states.std(axis=0) > 1e-9
    for axis in range(2):
        for part in states[:, varied].T:
            assert abs(np.corrcoef(errors[:, axis], part)[0, 1]) < 0.35
    assert np.abs(errors).max() <= 0.003
    assert np.abs(errors).max() > 0.002


def test_success_of_the_peg_means_that_it_is_in_the_hole(envs):
    env = envs["peg"]
    expert = env.task.expert(np.random.default_rng(0))
    _, info = env.reset(seed=5)
    expert.reset()
    reward, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(
            expert.act(info["snapshot"], info["goal_estimate"])
        )
    truth = info["privileged_state"]
    assert terminated
    assert reward == 1.0
    assert truth["depth"] >= env.task.value("depth")
    assert abs(truth["error_x"]) < 0.003
    assert abs(truth["error_y"]) < 0.003
    assert truth["tilt"] < 0.1
    assert info["force_peak"] > 0.0


def test_gripper_keeps_its_command_while_the_action_is_undecided():
    task = make("pick")
    snapshot = Snapshot(gripper_target=OPEN)
    grips = [
        task.request(snapshot, np.array([0, 0, 0, g]), 0).gripper
        for g in (-1.0, 0.5 * HYSTERESIS, -0.5 * HYSTERESIS, 1.0)
    ]
    assert grips == [OPEN, OPEN, OPEN, 0.0]


def test_an_action_moves_the_target_from_where_it_is_not_the_tool():
    task = make("peg")
    snapshot = Snapshot(
        position=np.array([0.5, 0.0, 0.1]), target_position=np.array([0.5, 0.01, 0.1])
    )
    request = task.request(snapshot, np.array([2.0, 0.0, -0.5]), 3)
    scale = task.value("action_scale")
    assert request.seq == 3
    assert np.allclose(request.position, [0.5 + scale, 0.01, 0.1 - 0.5 * scale])
    assert np.linalg.norm(request.quaternion) == 1.0


def test_config_is_part_of_the_hash_and_none_means_the_default():
    plain = make("peg")
    same = make("peg", TaskConfig(name="peg", horizon=plain.horizon))
    other = make("peg", TaskConfig(name="peg", hidden_error=(0.004, 0.004, 0.0)))
    assert plain.spec.task_hash == same.spec.task_hash
    assert plain.spec.task_hash != other.spec.task_hash
    assert resolve(TaskConfig(name="peg")).clearance == plain.config.clearance


def test_a_bad_task_is_named_with_what_would_be_right():
    with pytest.raises(ConfigError, match="did you mean 'peg'"):
        make("pegg", TaskConfig(name="pegg"))
    with pytest.raises(ConfigError, match="given the config of task 'reach'"):
        make("peg", TaskConfig(name="reach"))
    with pytest.raises(ConfigError, match=r"task.* hidden_error must be half widths"):
        from_dict(TaskConfig, {"hidden_error": [1.0, 0.0, 0.0]}, "task")
    with pytest.raises(ConfigError, match="can't load task"):
        make("no_such_module:Task", TaskConfig(name="no_such_module:Task"))


def test_a_task_of_a_users_own_is_made_by_name():
    register("my_peg", "robot_env.tasks.peg:Peg")
    assert "my_peg" in names()
    assert make("my_peg").spec.action == 3
    with pytest.raises(ConfigError, match="another name"):
        register("my_peg", "robot_env.tasks.reach:Reach")
