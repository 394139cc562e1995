"""A gymnasium environment as a task: spaces, ends, rewards, seeds, and errors that help."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from actor.config import load_config, parse_config
from actor.loop.make_env import make_env, make_task
from handrail.errors import ConfigError
from handrail.errors import Error as HandrailError
from robot_env.gym.config import GymConfig
from robot_env.gym.env import GymEnv
from robot_env.gym.spaces import action_map, flatten, layout, slices
from robot_env.gym.task import GymTask
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig

LIMIT = 12  # [steps]


class Tray(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Push a marble along a rail: what it sees is nested, what it takes is lopsided."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(self, goal: float = 5.0, render_mode: str | None = None) -> None:
        self.goal, self.render_mode = goal, render_mode
        self.observation_space = spaces.Dict(
            {
                "marble": spaces.Dict(
                    {
                        "place": spaces.Box(-20.0, 20.0, (1,), np.float64),
                        "grid": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
                    }
                ),
                "colour": spaces.Discrete(3),
            }
        )
        self.action_space = spaces.Box(
            np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32)
        )
        self.taken: list[np.ndarray] = []

    def _see(self) -> dict[str, Any]:
        grid = np.full((2, 2), self.place / 20.0, np.float32)
        return {"marble": {"place": np.array([self.place]), "grid": grid}, "colour": self.colour}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-1.0, 1.0))
        self.colour = int(self.np_random.integers(3))
        return self._see(), {}

    def step(self, action: np.ndarray):
        self.taken.append(action.copy())
        self.place += float(action[0])
        fell = self.place < -10.0
        reached = abs(self.place - self.goal) < 1.0
        info = {"is_success": reached, "distance": abs(self.place - self.goal), "name": "tray"}
        return self._see(), -abs(self.place - self.goal), fell, False, info

    def render(self):
        return np.zeros((33, 20, 3), np.uint8)


@pytest.fixture(autouse=True)
def tray():
    gymnasium.register("Tray-v0", f"{__name__}:Tray", max_episode_steps=LIMIT)
    yield
    del gymnasium.registry["Tray-v0"]


def made(task: dict[str, Any] | None = None, **gym: Any) -> GymEnv:
    return GymEnv(GymTask(TaskConfig(name="gym:Tray-v0", **(task or {})), GymConfig(**gym)))


def act(env: GymEnv, *action: float):
    return env.step(np.array(action, np.float32))


def inner(env: GymEnv) -> Tray:
    return env._env.unwrapped


def test_state_is_the_flattened_parts_by_name():
    env = made(clock=True)
    observation, _ = env.reset(seed=3)
    spec = env.task.spec
    assert set(spec.slices) == {"marble_place", "marble_grid", "colour", "time_left"}
    assert observation["state"].dtype == np.float32
    assert observation["state"].shape == (spec.state,) == (1 + 4 + 3 + 1,)
    tray = inner(env)
    assert spec.part(observation["state"], "marble_place") == pytest.approx(tray.place)
    assert np.allclose(spec.part(observation["state"], "marble_grid"), tray.place / 20.0)
    assert np.array_equal(spec.part(observation["state"], "colour"), np.eye(3)[tray.colour])
    assert spec.part(observation["state"], "time_left") == 1.0
    for _ in range(LIMIT):
        observation, *_ = act(env, -0.5, 0.0)  # this action moves nothing
    assert spec.part(observation["state"], "time_left") == -1.0


def test_there_is_no_clock_unless_asked_for():
    assert "time_left" not in made().task.spec.slices


def test_actions_reach_both_ends_of_lopsided_bounds_exactly():
    env = made()
    env.reset(seed=0)
    for action in ((-1.0, -1.0), (1.0, 1.0), (0.0, 0.0), (-7.0, 7.0)):
        act(env, *action)
    wanted = [[-1.0, 0.0], [3.0, 0.5], [1.0, 0.25], [-1.0, 0.5]]
    assert np.allclose(inner(env).taken, wanted)
    assert all(env._env.action_space.contains(a) for a in inner(env).taken)
    space = inner(env).action_space
    to = action_map(space, "tray")
    for own in (space.sample() for _ in range(20)):
        assert np.allclose(to.to_env(to.from_env(own)), own, atol=1e-6)


def test_time_that_runs_out_truncates_and_a_fall_terminates():
    env = made()
    env.reset(seed=0)
    ends = [act(env, -0.5, 0.0)[2:4] for _ in range(LIMIT)]
    assert ends == [(False, False)] * (LIMIT - 1) + [(False, True)]
    env.reset(seed=0)
    ends = [act(env, -1.0, 0.0)[2:4] for _ in range(11)]
    assert ends[-1] == (True, False)
    assert (False, True) not in ends


@pytest.mark.parametrize("horizon", [5, 40])
def test_horizon_of_the_config_is_the_time_limit(horizon: int):
    env = made({"horizon": horizon})
    env.reset(seed=0)
    assert env.task.spec.horizon == horizon
    truncated = [act(env, -0.5, 0.0)[3] for _ in range(horizon)]
    assert truncated == [False] * (horizon - 1) + [True]


def test_rate_is_the_environments_own_or_the_configs():
    assert made().task.spec.control_hz == 25.0
    assert made({"control_hz": 4.0}).task.spec.control_hz == 4.0


def test_success_ends_the_episode_only_where_asked():
    for ends in (False, True):
        env = made(success_key="is_success", terminate_on_success=ends)
        env.reset(seed=0)
        steps = [act(env, 0.25, 0.0) for _ in range(8)]  # half a metre each
        reached = [step[4]["success"] for step in steps]
        assert not reached[0]
        first = reached.index(True)
        assert all(reached[first:]), "success holds to the end of the episode"
        assert steps[first][2] is ends


def test_sparse_reward_is_one_on_success_and_nothing_else():
    env = made(success_key="is_success", terminate_on_success=True, reward="sparse")
    env.reset(seed=0)
    rewards = []
    while True:
        _, reward, terminated, truncated, info = act(env, 0.25, 0.0)
        rewards.append(reward)
        if terminated or truncated:
            break
    assert info["success"]
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]


def test_what_is_learned_from_is_scaled_and_what_is_reported_is_not():
    env = made(reward_scale=0.1, reward_shift=2.0)
    env.reset(seed=0)
    _, reward, _, _, info = act(env, 0.0, 0.0)
    assert info["return_reward"] == pytest.approx(-info["privileged_state"]["distance"])
    assert reward == pytest.approx(0.1 * info["return_reward"] + 2.0)
    assert "name" not in info["privileged_state"], "only numbers go into the metrics"


def test_return_that_counts_as_success_is_judged_at_the_end():
    for bar, success in ((-1e9, True), (0.0, False)):
        env = made(success_return=bar)
        env.reset(seed=0)
        told = [act(env, -0.5, 0.0)[4]["success"] for _ in range(LIMIT)]
        assert told == [False] * (LIMIT - 1) + [success]


def test_a_seed_fixes_the_start_and_only_the_start():
    one, two = made(), made()

    def place(env: GymEnv, seed: int) -> float:
        return env.task.spec.part(env.reset(seed=seed)[0]["state"], "marble_place").item()

    starts = [place(one, seed) for seed in range(20)]
    assert [place(two, seed) for seed in range(20)] == starts
    assert len(set(starts)) == 20


def test_held_out_goals_are_another_environment():
    env = made(kwargs={"goal": 3.0}, held_out={"goal": -4.0})
    other = env.held_out
    assert other is not None
    assert (inner(env).goal, inner(other).goal) == (3.0, -4.0)
    assert other.held_out is None
    assert env.held_out is other
    assert made().held_out is None


def test_a_picture_has_even_sides():
    env = made()
    env.reset(seed=0)
    assert env.render().shape == (32, 20, 3)


def test_the_hash_tells_environments_and_judgements_apart():
    tasks = [made(), made(clock=True), made(reward_scale=2.0), made(kwargs={"goal": 1.0})]
    assert len({env.task.spec.hash for env in tasks}) == len(tasks)
    assert made().task.spec.hash == made().task.spec.hash


def test_an_observation_that_is_not_finite_is_named():
    env = made()
    env.reset(seed=0)
    blind = {"place": np.array([np.nan]), "grid": np.zeros((2, 2), np.float32)}
    inner(env)._see = lambda: {"marble": blind, "colour": 0}  # type: ignore[method-assign]
    with pytest.raises(HandrailError, match="marble_place"):
        act(env, 0.0, 0.0)


@pytest.mark.parametrize("action", [[0.0], [0.0, np.nan]])
def test_an_action_of_another_shape_or_not_finite_is_refused(action):
    env = made()
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="2 finite values"):
        act(env, *action)


def test_success_key_that_is_not_there_is_an_error_with_those_that_are():
    env = made({"horizon": 1}, success_key="success")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="'is_success'"):
        act(env, 0.0, 0.0)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(4), "discrete actions"),
        (spaces.MultiBinary(4), "discrete actions"),
        (spaces.Dict(a=spaces.Box(-1, 1)), "Box of floats"),
        (spaces.Box(0, 9, (2,), np.int64), "Box of floats"),
        (spaces.Box(-np.inf, np.inf, (2,)), "RescaleAction"),
        (spaces.Box(-1.0, np.inf, (2,)), "RescaleAction"),
    ],
)
def test_actions_that_cannot_be_learned_are_refused(space, words):
    with pytest.raises(ConfigError, match=words) as raised:
        action_map(space, "gym:Odd-v0")
    assert "gym:Odd-v0" in str(raised.value)
    assert "Box(-1, 1, (4,), float32)" in str(raised.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(0, 255, (96, 96, 3), np.uint8), "image"),
        (spaces.Dict(front=spaces.Box(0, 255, (3, 64, 64), np.uint8)), "front as an image"),
        (spaces.Sequence(spaces.Box(-1, 1)), "no fixed length"),
        (spaces.Text(8), "no fixed length"),
        (spaces.Dict(), "one part or more"),
    ],
)
def test_observations_that_cannot_be_learned_from_are_refused(space, words):
    with pytest.raises(ConfigError, match=words):
        layout(space, "gym:Odd-v0")


def test_every_flat_space_becomes_numbers():
    space = spaces.Tuple(
        [spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]
    )
    parts = layout(space, "odd")
    assert slices(parts, clock=False) == {"0": (0, 2), "1": (2, 7), "2": (7, 10)}
    assert flatten(parts, space.sample(), "odd").shape == (10,)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gym:Pendulm-v1", [], "did you mean 'Pendulum-v1'"),
        ("gym:CartPole-v1", [], "discrete actions"),
        ("gym:nowhere_at_all:Some-v0", [], "can't be imported"),
        ("gym:Pendulum-v1", ["--run.demos", "5"], "no scripted expert"),
        ("gym:Pendulum-v1", ["--operator.enabled"], "operator"),
        ("gym:Pendulum-v1", ["--task.clearance", "0.1"], "clearance .* means nothing"),
        ("gym:Pendulum-v1", ["--gym.reward", "sparse"], "success_key"),
        ("gym:Pendulum-v1", ["--gym.terminate-on-success", "True"], "success_key"),
        ("gym:Pendulum-v1", ["--gym.kwargs", "gravity", "9.8"], "gravity"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(name, options, words):
    with pytest.raises(ConfigError, match=words):
        make_task(load_config(name, options))


def test_an_environment_without_a_time_limit_asks_for_one():
    gymnasium.registry["Tray-v0"].max_episode_steps = None
    with pytest.raises(ConfigError, match=r"--task\.horizon 500"):
        made()
    assert made({"horizon": 7}).task.spec.horizon == 7


def test_the_arms_own_commands_say_that_there_is_no_arm():
    with pytest.raises(ConfigError, match="needs the arm's tasks"):
        make("gym:Pendulum-v1")


def test_what_assumes_one_reward_at_the_end_is_off_unless_given():
    table: dict[str, Any] = {"task": {"name": "gym:Tray-v0"}}
    learner = parse_config(table).learner
    assert (learner.v_range, learner.success_is_terminal) == (None, False)
    assert learner.backup_entropy
    given = {"v_range": [-9.0, 9.0], "success_is_terminal": True}
    learner = parse_config({**table, "learner": given}).learner
    assert (learner.v_range, learner.success_is_terminal) == ((-9.0, 9.0), True)
    learner = load_config("gym:Tray-v0", ["--learner.success-is-terminal"]).learner
    assert learner.success_is_terminal
    assert learner.normaliser_floor == 1.0, "there are no demonstrations to scale states by"
    assert load_config("metaworld_peg").learner.normaliser_floor < 0.1
    assert load_config("peg").learner.normaliser_floor < 0.1
    given = ["--learner.normaliser-floor", "0.5"]
    assert load_config("gym:Tray-v0", given).learner.normaliser_floor == 0.5
    sparse = {"reward": "sparse", "terminate_on_success": True, "success_key": "is_success"}
    learner = parse_config({**table, "gym": sparse}).learner
    assert (learner.success_is_terminal, learner.backup_entropy) == (True, False)


def test_pendulum_is_stepped_as_gymnasium_steps_it():
    config = load_config("pendulum")
    task = make_task(config)
    env = make_env(config, task)
    plain = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=5)
    expected, _ = plain.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert np.array_equal(observation["state"], expected)
        action = rng.uniform(-1.0, 1.0, 1).astype(np.float32)
        observation, reward, *ends, info = env.step(action)
        expected, own, *own_ends, _ = plain.step(2.0 * action)
        assert reward == pytest.approx(float(own), abs=1e-6)
        assert ends == own_ends
        assert not info["success"], "random torques don't swing it up"
