"""What a session needs of an environment and its task, be it a robot or a gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from controllers.robot import Authority
from handrail.spec import EnvSpec

Observation = dict[str, Any]  # "state": (S,) float32; "images": name -> (H, W, 3) uint8, if any


class ScriptedPolicy(Protocol):
    """Somebody who acts without learning: an expert or a baseline."""

    def reset(self) -> None:
        """Forget the last episode."""
        ...

    def act(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return an action (A,) in [-1, 1], given what `info["script_inputs"]` holds."""
        ...


class EnvTask(Protocol):
    """What is asked: the spec of observation and action, and who can do it by a script."""

    @property
    def name(self) -> str:
        """As in the config."""
        ...

    @property
    def spec(self) -> EnvSpec:
        """Shapes, rate and horizon."""
        ...

    @property
    def has_success(self) -> bool:
        """Whether anything says what success is; without it only returns mean something."""
        ...

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], Any]]:
        """Policies without skill, each made from a generator."""
        ...

    def expert(self, rng: np.random.Generator, noise: float = 0.0) -> ScriptedPolicy:
        """Return the scripted expert: 0 for its best, 1 for a demonstrator's hand."""
        ...


class Env(Protocol):
    """A task that can be stepped.

    `info` of `reset` and `step` has `success`, `privileged_state` (named values) and
    `script_inputs` (the arguments of a script's `act`); of `step` also `filter_delta` (A,), `cost`
    and `violation`; `return_reward` is there where the reward that is learned from is not the one
    that is reported.
    """

    @property
    def task(self) -> EnvTask:
        """What is asked."""
        ...

    @property
    def held_out(self) -> Env | None:
        """The same task with goals that training never shows; None where there are none."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the episode of a seed; return observation and info."""
        ...

    def step(
        self, action: np.ndarray, authority: int = Authority.POLICY
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act (A,) in [-1, 1]; return observation, reward, terminated, truncated and info."""
        ...

    def render(self) -> np.ndarray:
        """Return a picture for people (H, W, 3) uint8.

        Raises:
            RuntimeError: There is no way to render here.
        """
        ...

    def close(self) -> None:
        """Let go of everything; safe to call twice."""
        ...
