"""What the actor's loop writes down: what was done, by whom, beside what, and what came of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actor.loop.episode import ActingPolicy, ActionRecord, EpisodeResult, run_episode
from actor.loop.evaluate import evaluate
from controllers.config import ControlConfig
from handrail.config import from_dict
from handrail.transition import Source, Transition
from learner.bases.queue import ChunkQueue
from learner.config import LearnerConfig
from learner.data.replay import Replay
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig

HORIZON = 11  # [steps], no multiple of what the base executes
HAND = np.array([0.25, 2.0, -0.5])  # what the person asks for, partly out of the box


class Forward:
    """A base that moves on a little, in chunks of four."""

    chunk = execute = 4

    def propose(self, obs, key, carry, noise=None):
        return np.full((4, 3), 0.1, np.float32), (carry or 0) + 1


class Steady:
    """The base's action with a fixed edit; keeps what it saw first."""

    def __init__(self) -> None:
        self.queue = ChunkQueue(Forward(), 3)
        self.first: list[np.ndarray] = []
        self._new = True

    def reset(self) -> None:
        self.queue.reset()
        self._new = True

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> ActionRecord:
        if self._new:
            self.first.append(observation["state"])
        self._new = False
        context = self.queue.next(observation["state"])
        return ActionRecord(context.action + np.float32(0.05), context)

    def flush(self) -> None:
        self.queue.flush()


class Hand:
    """A person who holds the arm in some steps of each episode, or left the pedal down before."""

    def __init__(self, begin: int, end: int, pedal: bool = False) -> None:
        self.begin, self.end, self.pedal = begin, end, pedal
        self.t = 0

    def resume(self, steps: int, takeovers: int, episodes: int) -> None:
        pass

    def reset(self, noise_free: bool = False) -> None:
        self.t, self.pedal = 0, False

    def read(self, observation: dict[str, Any], info: dict[str, Any]) -> np.ndarray | None:
        self.t += 1
        return HAND if self.pedal or self.begin < self.t <= self.end else None


@pytest.fixture(scope="module")
def env():
    config = from_dict(TaskConfig, {"name": "reach", "horizon": HORIZON}, "task")
    task = make("reach", config)
    env = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
    yield env
    env.close()


def run(env: RobotEnv, driver: Steady, **more: Any) -> tuple[EpisodeResult, list[Transition]]:
    rows: list[Transition] = []
    sink = rows.append
    result = run_episode(env, driver, seed=3, episode=0, source=Source.ONLINE, sink=sink, **more)
    return result, rows


def test_the_executed_action_is_stored_beside_what_policy_and_base_wanted(env):
    result, rows = run(env, Steady(), intervener=Hand(5, 8))
    for row in rows[:-1]:
        held = 5 <= row.t < 8
        assert row.intervened == held
        expected = np.clip(HAND, -1, 1) if held else row.policy_action
        np.testing.assert_array_equal(row.action, expected.astype(np.float32))
        np.testing.assert_allclose(row.policy_action, 0.15, atol=1e-6)
        np.testing.assert_allclose(row.base_action, 0.1, atol=1e-6)
        assert row.base_valid
    assert (result.human_steps, result.takeovers) == (3, 1)
    assert not result.autonomous


def test_the_base_is_asked_anew_at_take_over_and_at_hand_back(env):
    _, rows = run(env, Steady(), intervener=Hand(2, 5))
    assert [row.base_pos for row in rows] == [0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2]


def test_the_base_is_asked_anew_after_time_ran_out(env):
    driver = Steady()
    for _ in range(2):
        _, rows = run(env, driver)
        assert rows[-2].truncated
        assert not rows[-2].terminated
        assert rows[0].base_pos == 0
        assert driver.queue._carry == 3  # chunks since the episode began


def test_the_last_row_is_what_came_of_the_last_action(env):
    _, rows = run(env, Steady())
    assert rows[-1].end
    assert rows[-1].base_valid
    observation, _ = env.reset(seed=3)
    for row in rows[:-1]:
        np.testing.assert_array_equal(row.state, observation["state"])
        observation = env.step(row.action)[0]
    np.testing.assert_array_equal(rows[-1].state, observation["state"])


@pytest.mark.parametrize("most", [1, 4, HORIZON - 1])
def test_an_episode_that_the_budget_cuts_keeps_what_its_value_bootstraps_from(env, most):
    result, rows = run(env, Steady(), max_steps=most)
    whole = run(env, Steady())[1]
    assert not result.complete
    assert result.length == most
    assert [row.t for row in rows if row.end] == [most]
    assert not any(row.truncated or row.terminated for row in rows)  # its time was not up
    for row, other in zip(rows, whole, strict=False):
        np.testing.assert_array_equal(row.state, other.state)
    replay = Replay(LearnerConfig(timeout_is_failure=True, n_step=3, discount=0.9), env.task.spec)
    slots = np.asarray([replay.add(row) for row in rows])
    windows = replay.windows(slots[:-1])
    assert windows.discount[-1] == np.float32(0.9)
    assert windows.bootstrap[-1] == slots[-1]
    assert np.isnan(replay.mc_return[slots]).all()  # nobody knows what it would have come to


def test_an_episode_that_ends_with_the_budget_is_a_whole_one(env):
    result, rows = run(env, Steady(), max_steps=HORIZON)
    assert result.complete
    assert rows[-2].truncated


def test_an_episode_that_was_cut_has_no_last_row(env):
    left = iter([True] * 4 + [False])
    result, rows = run(env, Steady(), before_step=lambda: next(left))
    assert not result.complete
    assert [row.t for row in rows] == [0, 1, 2, 3]
    assert not any(row.end or row.truncated for row in rows)


def test_a_pedal_left_down_is_forgotten_at_the_start(env):
    result, rows = run(env, Steady(), intervener=Hand(0, 0, pedal=True))
    assert result.autonomous
    assert not any(row.intervened for row in rows)


def test_evaluation_alternates_between_drivers_from_equal_starts(env):
    one, other = Steady(), Steady()
    drivers: dict[str, ActingPolicy] = {"one": one, "other": other}
    order: list[tuple[str, int]] = []
    evaluate(env, drivers, range(3), 0, report=lambda name, start, _: order.append((name, start)))
    assert order == [(name, start) for start in range(3) for name in drivers]
    assert all(np.array_equal(a, b) for a, b in zip(one.first, other.first, strict=True))
    assert not np.array_equal(one.first[0], one.first[1])
