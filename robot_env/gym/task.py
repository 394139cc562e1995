"""A gymnasium environment as a task: its spec, its scripts, and how to make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from handrail.config import digest
from handrail.errors import ConfigError
from handrail.spec import EnvSpec
from robot_env.gym.config import HORIZONS, GymConfig, refuse_robot_keys, resolve
from robot_env.gym.contract import CheckedEnv
from robot_env.gym.make import make_registered
from robot_env.gym.spaces import action_map, layout, slices
from robot_env.protocol import ScriptedPolicy
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import METAWORLD, prefix_of

FORMAT = 1  # raised when the adapter changes what a config means
CONTROL_HZ = 10.0  # [Hz], of an environment that doesn't say


class GymTask:
    """What is asked of the learner by a gymnasium environment."""

    def __init__(self, task: TaskConfig, config: GymConfig) -> None:
        """Make the environment and read its spaces; `take` hands it out, `close` closes it.

        It is made once, since one that holds a camera or a bus can't be made twice.

        Raises:
            ConfigError: No such environment, or none that can be learned from; says why.
        """
        prefix = prefix_of(task.name)
        if prefix is None:
            raise ConfigError(f"{task.name!r} is no gymnasium environment: try 'gym:{task.name}'")
        refuse_robot_keys(task)
        self.name = task.name
        self.config = resolve(task.name, config)
        self._id = task.name.removeprefix(prefix)
        self._metaworld = prefix == METAWORLD
        self._horizon = task.horizon
        self._made: Any = self.make()
        try:
            self._read(task)
        except BaseException:
            self.close()
            raise

    def _read(self, task: TaskConfig) -> None:
        env = self._made
        assert self._horizon is not None  # `make` sees to it
        self.parts = layout(env.observation_space, task.name)
        self.actions = action_map(env.action_space, task.name)
        rate = task.control_hz or float(env.metadata.get("render_fps") or CONTROL_HZ)
        self.spec = EnvSpec(
            task=task.name,
            task_hash=digest(self.config, {"name": task.name, "format": FORMAT}),
            control_hz=rate,
            horizon=self._horizon,
            slices=slices(self.parts, self.config.clock),
            action=len(self.actions.low),
        )

    @property
    def has_held_out(self) -> bool:
        """Whether there are goals that training never shows."""
        return self._metaworld or bool(self.config.held_out)

    @property
    def has_expert(self) -> bool:
        """Whether somebody can demonstrate."""
        return self._metaworld

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Policies without skill: random actions, and the middle of every range."""
        size = len(self.actions.low)
        return {
            "random": lambda rng: FunctionPolicy(lambda: rng.uniform(-1.0, 1.0, size)),
            "still": lambda rng: FunctionPolicy(lambda: np.zeros(size)),
        }

    def expert(self, rng: np.random.Generator, noise: float = 0.0) -> ScriptedPolicy:
        """Return the environment's scripted expert.

        Raises:
            ConfigError: It has none.
        """
        if not self._metaworld:
            raise ConfigError(f"{self.name} has no scripted expert; train with --run.demos 0")
        from robot_env.gym.metaworld import Demonstrator

        return Demonstrator(self._id, self.actions, rng, noise)

    @property
    def has_success(self) -> bool:
        """Whether anything says what success is; without it only returns mean something."""
        return self.config.success_key is not None or self.config.success_return is not None

    def take(self) -> Any:
        """Return the environment that was made, once; after that a new one."""
        made, self._made = self._made, None
        return self.make() if made is None else made

    def close(self) -> None:
        """Close the environment unless somebody has taken it; safe to call twice."""
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def make(self, held_out: bool = False) -> Any:
        """Return the gymnasium environment.

        Args:
            held_out: With the goals that training never shows.

        Raises:
            ConfigError: It can't be made.
        """
        kwargs = _with_lists(self.config.kwargs)
        changed = _with_lists(self.config.held_out) if held_out else None
        if self._metaworld:
            from robot_env.gym.metaworld import make_metaworld

            env, limit = make_metaworld(self._id, kwargs, changed), HORIZONS[METAWORLD]
        else:
            env, limit = make_registered(self._id, {**kwargs, **(changed or {})})
        self._horizon = self._horizon or limit
        if self._horizon is None:
            env.close()
            raise ConfigError(
                f"{self.name} has no time limit of its own; say how long an episode is, in steps: "
                f"--task.horizon 500"
            )
        return gymnasium.wrappers.TimeLimit(CheckedEnv(env, self.name), self._horizon)


class FunctionPolicy:
    """A script that looks at nothing."""

    def __init__(self, rule: Callable[[], np.ndarray]) -> None:
        self._rule = rule

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: Any) -> np.ndarray:
        """Return the rule's action (A,)."""
        return self._rule()


def _with_lists(value: Any) -> Any:
    """Return arguments as TOML has them: a config holds its lists as tuples."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, tuple) else value
