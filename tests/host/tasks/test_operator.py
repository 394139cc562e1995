"""The scripted operator: takes over when it goes wrong, lets go again, and keeps its budget."""

from __future__ import annotations

import numpy as np
import pytest

from controllers.config import ControlConfig
from handrail.config import from_dict
from handrail.errors import ConfigError
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.teleop.scripted import OperatorConfig, ScriptedOperator


@pytest.fixture(scope="module")
def env():
    task = make("peg")
    env = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
    yield env
    env.close()


def drive(
    env: RobotEnv, operator: ScriptedOperator, policy, start: int, noise_free: bool = False
) -> tuple[bool, list[bool]]:
    """Run an episode; return success and who drove each step (True: the operator)."""
    observation, info = env.reset(options={"start": start})
    policy.reset()
    operator.reset(noise_free)
    driven, done = [], False
    while not done:
        action = operator.read(observation, info)
        driven.append(action is not None)
        if action is None:
            action = policy.act(info["snapshot"], info["goal_estimate"])
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    return info["success"], driven


def test_hands_stay_off_an_expert(env):
    operator = ScriptedOperator(env.task, OperatorConfig(), seed=0)
    expert = env.task.expert(np.random.default_rng(0))
    for start in range(8):
        success, driven = drive(env, operator, expert, start)
        assert success
        assert not any(driven)


@pytest.mark.slow
def test_hands_stay_off_quiet_episodes_unless_asked(env):
    push = env.task.baselines["push"](np.random.default_rng(0))
    for asked in (True, False):
        operator = ScriptedOperator(env.task, OperatorConfig(hands_off_quiet=asked), seed=0)
        for noise_free in (True, False):
            driven = [drive(env, operator, push, start, noise_free)[1] for start in range(5)]
            assert any(map(any, driven)) == (not (asked and noise_free))


@pytest.mark.slow
def test_help_makes_a_poor_policy_succeed_more_often(env):
    operator = ScriptedOperator(env.task, OperatorConfig(), seed=0)
    push = env.task.baselines["push"](np.random.default_rng(0))
    nobody = ScriptedOperator(env.task, OperatorConfig(budget_steps=0), seed=0)
    alone = sum(drive(env, nobody, push, start)[0] for start in range(15))
    helped = sum(drive(env, operator, push, start)[0] for start in range(15))
    assert helped >= 14
    assert helped > alone + 4
    assert operator.interventions > 0


def test_it_lets_go_again_within_its_longest_hold(env):
    config = OperatorConfig(hold_steps=(5, 12), release=0.005)
    operator = ScriptedOperator(env.task, config, seed=0)
    still = env.task.baselines["push"](np.random.default_rng(0))
    held = []
    for start in range(10):
        _, driven = drive(env, operator, still, start)
        run = 0
        for step in [*driven, False]:
            run = run + 1 if step else 0
            held.append(run)
    assert 5 <= max(held) <= 12


def test_it_never_drives_beyond_its_budget(env):
    config = OperatorConfig(budget_steps=30, episode_interventions=2)
    operator = ScriptedOperator(env.task, config, seed=0)
    push = env.task.baselines["push"](np.random.default_rng(0))
    driven = sum(sum(drive(env, operator, push, start)[1]) for start in range(12))
    assert driven == operator.steps <= 30
    assert operator.budget_left == 30 - driven


def test_the_same_seed_drives_the_same_way(env):
    def account(seed: int) -> list[bool]:
        operator = ScriptedOperator(env.task, OperatorConfig(), seed=seed)
        push = env.task.baselines["push"](np.random.default_rng(0))
        return [step for start in range(6) for step in drive(env, operator, push, start)[1]]

    assert account(3) == account(3)


def test_a_resumed_operator_goes_on_with_its_budget(env):
    operator = ScriptedOperator(env.task, OperatorConfig(budget_steps=50), seed=0)
    push = env.task.baselines["push"](np.random.default_rng(0))
    for start in range(5):
        drive(env, operator, push, start)
    resumed = ScriptedOperator(env.task, OperatorConfig(budget_steps=50), seed=0)
    resumed.resume(operator.steps, operator.interventions, 5)
    assert resumed.budget_left == operator.budget_left < 50
    assert drive(env, resumed, push, 5) == drive(env, operator, push, 5)


def test_a_bad_table_is_refused_with_the_rule():
    with pytest.raises(ConfigError, match=r"operator.*hold_steps must be two rising"):
        from_dict(OperatorConfig, {"hold_steps": [9, 3]}, "operator")
