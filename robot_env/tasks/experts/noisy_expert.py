"""A demonstrator: the task's expert action, with a person's hand.

Demonstrations that never go wrong teach no recovery, so the hand's error is correlated in time,
larger when it moves fast, and now and then it lapses: for half a second it goes somewhere else, and
then has to come back.

Source:
    C. Harris and D. Wolpert, "Signal-dependent noise determines motor planning", Nature 1998.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from controllers.robot import Snapshot

CORRELATION = 0.8  # [-] per step, of the hand's error
SPREAD = 0.25  # [-], standard deviation of the error of a hand at full speed
TREMOR = 0.15  # [-], share of that error in a hand at rest
LAPSE_RATE = 0.02  # [-] per step, how often a lapse begins
LAPSE_STEPS = (3, 7)  # [steps], how long it lasts, both ends included
LAPSE_SIZE = 0.8  # [-], how far it pushes the action


class NoisyExpert:
    """The expert action plus an Ornstein-Uhlenbeck error and lapses."""

    def __init__(
        self,
        expert_action: Callable[[Snapshot, np.ndarray], np.ndarray],
        action_size: int,
        gripper: bool,
        rng: np.random.Generator,
        noise: float = 0.0,
    ) -> None:
        """Begin with a still hand.

        Args:
            expert_action: Noise-free privileged action of snapshot and goal estimate.
            action_size: A.
            gripper: True if the last dimension is the gripper, which is never disturbed.
            rng: Source of the noise.
            noise: Scale of the noise [-], 0 for none.
        """
        self._expert_action, self._rng, self._noise = expert_action, rng, noise
        self._axes = action_size - 1 if gripper else action_size
        self._action_size = action_size
        self.reset()

    def reset(self) -> None:
        """Begin an episode with a fresh error."""
        self._error = self._rng.normal(0.0, SPREAD, self._axes)
        self._lapse = np.zeros(self._axes)
        self._lapse_left = 0

    def act(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action (A,) in [-1, 1]."""
        action = np.clip(self._expert_action(snapshot, goal_estimate), -1.0, 1.0)
        if self._noise > 0.0:
            speed = np.abs(action[: self._axes])
            action[: self._axes] += self._noise * self._disturbance(speed)
        return np.clip(action, -1.0, 1.0)

    def _disturbance(self, speed: np.ndarray) -> np.ndarray:
        step = SPREAD * np.sqrt(1.0 - CORRELATION**2)
        self._error = CORRELATION * self._error + self._rng.normal(0.0, step, self._axes)
        if self._lapse_left > 0:
            self._lapse_left -= 1
        elif self._rng.random() < LAPSE_RATE:
            direction = self._rng.normal(size=self._axes)
            self._lapse = LAPSE_SIZE * direction / (np.linalg.norm(direction) + 1e-9)
            self._lapse_left = int(self._rng.integers(LAPSE_STEPS[0], LAPSE_STEPS[1] + 1))
        hand = (TREMOR + (1.0 - TREMOR) * speed) * self._error
        return hand + (self._lapse if self._lapse_left > 0 else 0.0)
