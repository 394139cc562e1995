"""Meta-World: one of its tasks as an environment that resets to a goal by seed, and its expert.

A task has infinitely many goals, and its `MT1` draws 50 of them per seed. Training draws from one
fifty and held-out evaluation from another, so that neither is mistaken for the other. The task
itself never ends on success: `[gym] terminate_on_success` does that.

Source:
    T. Yu et al., "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement
    Learning", 2019. The package `metaworld` is of the extra `bench`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import warnings
from typing import Any

import gymnasium
import numpy as np

from handrail.errors import ConfigError
from robot_env.gym.spaces import ActionMap

os.environ.setdefault("MUJOCO_GL", "egl")  # headless; mujoco reads it when it is imported

HELD_OUT = 1_000  # added to the seed of training's goals gives that of the held-out ones
NOISE = 0.2  # [-], standard deviation of the demonstrator's error
NOISE_STEPS = 5  # [steps] that an error is held
CAMERA = "corner2"  # for people; it hangs upside down


class Goals(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Resets to one of a task's fifty goals, the same for the same seed."""

    def __init__(self, env: Any, goals: list[Any]) -> None:
        super().__init__(env)
        self._goals = goals
        self._rng = np.random.default_rng()
        env.set_task(goals[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a goal and begin there."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        inner: Any = self.env
        inner.set_task(self._goals[self._rng.integers(len(self._goals))])
        inner.seed(int(self._rng.integers(1 << 31)))
        return inner.reset()

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Return a picture, the right way up (H, W, 3) uint8."""
        inner: Any = self.env
        return np.rot90(inner.render(), 2)


def make_metaworld(name: str, kwargs: dict[str, Any], held_out: dict[str, Any] | None) -> Goals:
    """Return a Meta-World task.

    Args:
        name: As Meta-World calls it, such as "peg-insert-side-v3".
        kwargs: `goals_seed` is the seed of the fifty goals [0]; the rest are arguments of the
            environment.
        held_out: Further arguments of the environment with held-out goals, which have another
            `goals_seed`; None for training's.

    Raises:
        ConfigError: No such task, an argument is wrong, or the package doesn't work here.
    """
    metaworld = _import()
    names = metaworld.MT1.ENV_NAMES
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else ", ".join(names)
        raise ConfigError(f"no Meta-World task {name!r}; {hint}")
    kwargs = {"goals_seed": 0, **kwargs}
    if held_out is not None:
        kwargs |= {"goals_seed": kwargs["goals_seed"] + HELD_OUT, **held_out}
    seed = kwargs.pop("goals_seed")
    try:
        suite = metaworld.MT1(name, seed=int(seed))
        made = suite.train_classes[name](render_mode="rgb_array", camera_name=CAMERA, **kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Meta-World task {name!r} can't be made: {error}; it needs the mujoco that the extra "
            f"'bench' installs, in a virtual environment of its own: make install-bench"
        ) from None
    return Goals(made, suite.train_tasks)


class Demonstrator:
    """Meta-World's own scripted policy, with an error that is held for some steps."""

    def __init__(
        self, name: str, actions: ActionMap, rng: np.random.Generator, noise: float
    ) -> None:
        """Begin.

        Args:
            name: Of the task.
            actions: From [-1, 1] to the environment's own.
            rng: Source of the error.
            noise: 0 for the policy as it is, 1 for a demonstrator's error.
        """
        self._policy = _import("metaworld.policies").ENV_POLICY_MAP[name]()
        self._actions, self._rng, self._noise = actions, rng, noise
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._t = 0
        self._error = np.zeros(len(self._actions.low))

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return the action (A,) in [-1, 1] at an observation as the environment gave it."""
        if self._noise > 0.0 and self._t % NOISE_STEPS == 0:
            self._error = self._rng.normal(0.0, NOISE * self._noise, len(self._error))
        self._t += 1
        with warnings.catch_warnings():  # it says at nearly every step that it would move faster
            warnings.simplefilter("ignore")
            action = self._policy.get_action(observation)
        return np.clip(self._actions.from_env(np.clip(action, -1, 1)) + self._error, -1.0, 1.0)


def _import(module: str = "metaworld") -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "metaworld":
            raise
        raise ConfigError(
            "Meta-World is not installed; it needs an older mujoco than the rest, so it has a "
            "virtual environment of its own: make install-bench"
        ) from None
