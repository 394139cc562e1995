"""Policies that may have the arm: the learned one, the scripted expert, the baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from actor.loop.episode import ActionRecord
from learner.bases.protocol import no_base
from learner.policy.policy import Mode, Policy
from robot_env.protocol import EnvTask


class LearnedPolicy:
    """The learned policy, or the base beneath it."""

    def __init__(
        self, policy: Policy, mode: Mode, env_step: Callable[[], int | None] = lambda: None
    ) -> None:
        """Act by a policy.

        Args:
            policy: Loads its weights elsewhere.
            mode: As in `Policy.act`.
            env_step: Env steps so far; None for as many as the weights have seen.
        """
        self._policy = policy
        self._mode: Mode = mode
        self._env_step = env_step

    def reset(self) -> None:
        """Begin an episode."""
        self._policy.reset()

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> ActionRecord:
        """Return the policy's action and the base's context."""
        out = self._policy.act(observation["state"], mode=self._mode, env_step=self._env_step())
        return ActionRecord(out.action, out.base, out.q)

    def flush(self) -> None:
        """Drop the base's planned chunk."""
        self._policy.flush()


class ScriptedActingPolicy:
    """A task's script: it sees what the environment shows scripts, not observations."""

    def __init__(self, make: Callable[[], Any], actions: int) -> None:
        self._make = make
        self._actions = actions
        self._script = make()

    def reset(self) -> None:
        """Begin an episode."""
        self._script.reset()

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> ActionRecord:
        """Return the script's action."""
        action = self._script.act(*info["script_inputs"])
        action = np.clip(action, -1, 1).astype(np.float32)
        return ActionRecord(action, no_base(self._actions))

    def flush(self) -> None:
        """Do nothing: a script plans no further than its next action."""


def expert_policy(task: EnvTask, rng: np.random.Generator, noisy: bool) -> ScriptedActingPolicy:
    """Return the task's scripted expert, which sees the simulation's truth."""
    return ScriptedActingPolicy(
        lambda: task.expert(rng, noise=1.0 if noisy else 0.0), task.spec.action
    )


def baseline_policy(task: EnvTask, name: str, rng: np.random.Generator) -> ScriptedActingPolicy:
    """Return one of the task's trivial policies."""
    return ScriptedActingPolicy(lambda: task.baselines[name](rng), task.spec.action)
