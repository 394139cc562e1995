"""A scripted person: watches, takes over when the policy stalls or drifts, and lets go again.

It makes human-in-the-loop results reproducible. It sees the simulation's truth, drives with the
task's expert and a little noise, has a budget as a person has patience, and is a pure function of
its seed and what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handrail.config import check
from robot_env.tasks.base import Task


@dataclass(frozen=True)
class OperatorConfig:
    """Patience and hand of the scripted operator: table `[operator]`."""

    enabled: bool = False  # watch and take over during training
    stall_steps: int = 20  # [steps] without progress before a take-over
    progress: float = 0.002  # [m], what counts as progress
    drift: float = 0.030  # [m], a step back from the best so far that means it goes wrong
    reaction_steps: int = 2  # [steps] between seeing trouble and driving
    hold_steps: tuple[int, int] = (8, 30)  # [steps], shortest and longest take-over
    release: float = 0.010  # [m], progress after which it lets go
    noise: float = 0.3  # [-], of its hand; 1 is a demonstration's
    budget_steps: int = 2000  # [steps], of driving in the whole run
    episode_interventions: int = 3  # take-overs per episode
    hands_off_quiet: bool = True  # only watch quiet episodes ([learner] noise_free_every)

    def __post_init__(self) -> None:
        check(self.stall_steps > 0, "stall_steps", self.stall_steps, "positive")
        check(self.progress > 0.0, "progress", self.progress, "positive")
        check(self.drift > 0.0, "drift", self.drift, "positive")
        check(self.release > 0.0, "release", self.release, "positive")
        check(self.reaction_steps >= 0, "reaction_steps", self.reaction_steps, "zero or more")
        low, high = self.hold_steps
        check(0 < low <= high, "hold_steps", self.hold_steps, "two rising positive numbers")
        check(0.0 <= self.noise <= 2.0, "noise", self.noise, "in 0..2")
        check(self.budget_steps >= 0, "budget_steps", self.budget_steps, "zero or more")
        check(
            self.episode_interventions >= 0,
            "episode_interventions",
            self.episode_interventions,
            "zero or more",
        )


class ScriptedOperator:
    """Watches every step of an episode; `read` says whether it drives this one."""

    def __init__(self, task: Task, config: OperatorConfig, seed: int) -> None:
        """Sit down.

        Args:
            task: Whose truth it sees and whose expert drives.
            config: Patience and hand.
            seed: Of its hand.
        """
        self._task, self._config, self._seed = task, config, seed
        self.steps = 0  # driven in this run
        self.interventions = 0  # take-overs in this run
        self._episode = -1
        self.reset()

    @property
    def budget_left(self) -> int:
        """Steps that it may still drive in this run [steps]."""
        return max(0, self._config.budget_steps - self.steps)

    def reset(self, noise_free: bool = False) -> None:
        """Begin to watch a new episode.

        Args:
            noise_free: Whether it is to show how the policy does by itself.
        """
        self._episode += 1
        self._only_watches = noise_free and self._config.hands_off_quiet
        rng = np.random.default_rng([self._seed, self._episode])
        self._expert = self._task.expert(rng, self._config.noise)
        self._best = np.inf  # [m], least way left that was seen
        self._since = 0  # [steps] since the best
        self._trouble = 0  # [steps] that trouble has been seen
        self._held = 0  # [steps] of this take-over, 0 while hands are off
        self._from = 0.0  # [m], way left when it took over
        self._taken = 0  # take-overs in this episode

    def read(self, observation: dict[str, Any], info: dict[str, Any]) -> np.ndarray | None:
        """Look at the newest snapshot and decide who drives the next step.

        Args:
            observation: Not looked at: a person watches the scene.
            info: Of the environment; `snapshot` and `goal_estimate` are read.

        Returns:
            The action (A,) float32 if the operator drives, None while its hands are off.
        """
        snapshot, goal_estimate = info["snapshot"], info["goal_estimate"]
        left = self._task.distance_to_success(snapshot, goal_estimate)
        if self._held > 0 and self._lets_go(left):
            self._held, self._best, self._since, self._trouble = 0, left, 0, 0
        if self._held == 0:
            self._look(left)
            if self._trouble <= self._config.reaction_steps or not self._may():
                return None
            self._from, self._taken = left, self._taken + 1
            self.interventions += 1
            self._expert.reset()
        self._held += 1
        self.steps += 1
        return self._expert.act(snapshot, goal_estimate).astype(np.float32)

    def resume(self, steps: int, takeovers: int, episodes: int) -> None:
        """Go on with a run, between two episodes.

        Args:
            steps: Driven so far [steps].
            takeovers: So far.
            episodes: Watched so far.
        """
        self.steps, self.interventions, self._episode = steps, takeovers, episodes

    def _look(self, left: float) -> None:
        if left < self._best - self._config.progress:
            self._best, self._since = left, 0
        else:
            self._since += 1
        stalled = self._since >= self._config.stall_steps
        drifted = left > self._best + self._config.drift
        self._trouble = self._trouble + 1 if stalled or drifted else 0

    def _lets_go(self, left: float) -> bool:
        shortest, longest = self._config.hold_steps
        helped = self._held >= shortest and left < self._from - self._config.release
        return helped or self._held >= longest or self.budget_left == 0

    def _may(self) -> bool:
        patient = self._taken < self._config.episode_interventions
        return patient and self.budget_left > 0 and not self._only_watches
