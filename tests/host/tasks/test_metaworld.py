"""Meta-World's traps: goals by seed, success that doesn't end the episode, an expert that errs."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from actor.config import load_config
from actor.loop.make_env import make_env, make_task
from handrail.errors import ConfigError
from robot_env.gym.env import GymEnv

HERE = importlib.util.find_spec("metaworld") is not None
TASK = "metaworld:peg-insert-side-v3"
needed = pytest.mark.skipif(not HERE, reason="Meta-World is not installed: make test-bench")


@pytest.fixture(scope="module")
def env():
    config = load_config("metaworld_peg")
    made = make_env(config, make_task(config))
    assert isinstance(made, GymEnv)
    yield made
    made.close()


def starts_of(env: GymEnv, count: int) -> set[tuple[float, ...]]:
    """Return where peg and hole are at some seeds."""
    states = [env.reset(seed=seed)[0]["state"] for seed in range(count)]
    return {tuple(np.round([*state[4:7], *state[36:39]], 5)) for state in states}


@pytest.mark.skipif(HERE, reason="it is installed here")
def test_without_the_package_the_error_says_how_to_get_it():
    with pytest.raises(ConfigError, match="make install-bench"):
        make_task(load_config(TASK))


@needed
@pytest.mark.bench
def test_defaults_are_those_of_the_benchmark(env: GymEnv):
    config = env.task.config
    assert (config.reward, config.terminate_on_success) == ("sparse", True)
    assert (env.task.spec.horizon, env.task.spec.action, env.task.spec.state) == (150, 4, 39)
    assert load_config(TASK).run.demos == 20


@needed
@pytest.mark.bench
def test_held_out_goals_are_none_of_the_fifty_of_training(env: GymEnv):
    assert env.held_out is not None
    train, held_out = starts_of(env, 120), starts_of(env.held_out, 120)
    assert 40 <= len(train) <= 50
    assert 40 <= len(held_out) <= 50
    assert not train & held_out


@needed
@pytest.mark.bench
def test_a_seed_fixes_goal_and_start(env: GymEnv):
    first = [env.reset(seed=seed)[0]["state"] for seed in (3, 4, 3)]
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])


@needed
@pytest.mark.bench
def test_success_ends_the_episode_with_the_only_reward(env: GymEnv):
    rng = np.random.default_rng(0)
    outcomes = []
    for seed in range(12):
        expert = env.task.expert(rng, noise=1.0)
        _, info = env.reset(seed=seed)
        rewards = []
        while True:
            _, reward, terminated, truncated, info = env.step(expert.act(*info["script_inputs"]))
            rewards.append(reward)
            if terminated or truncated:
                break
        assert terminated == info["success"] == (rewards[-1] == 1.0)
        assert truncated == (len(rewards) == 150 and not terminated)
        assert not any(rewards[:-1])
        outcomes.append(bool(terminated))
    assert any(outcomes), "no demonstration in twelve"
    assert not all(outcomes), "a noisy expert fails now and then"


@needed
@pytest.mark.bench
def test_task_that_does_not_exist_is_named_with_those_near_it():
    with pytest.raises(ConfigError, match="'peg-insert-side-v3'"):
        make_task(load_config("metaworld:peg-insert-v3"))
