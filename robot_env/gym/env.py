"""A gymnasium environment as Handrail steps it: flat state, actions in [-1, 1], success in info."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from controllers.robot import Authority
from handrail.errors import ConfigError
from robot_env.gym.contract import as_reward, check_observation, missing_key
from robot_env.gym.slow_calls import SlowCallWatch
from robot_env.gym.spaces import flatten
from robot_env.gym.task import GymTask
from robot_env.protocol import Observation

log = logging.getLogger("actor")


class GymEnv:
    """Lives in the process that steps it; there is no control host.

    A step that ends because time ran out is truncated and not terminated, so that its value is
    bootstrapped; what the environment calls terminated stays so. Success holds from the step that
    first reached it to the end of the episode. It is as fast as it can be: `control_hz` is what the
    environment says of its steps, and films are played at it.
    """

    def __init__(
        self, task: GymTask, held_out: bool = False, say: Callable[[str], None] = log.warning
    ) -> None:
        """Make the environment.

        Args:
            task: What it is.
            held_out: With the goals that training never shows.
            say: Told of a call that doesn't return, from another thread, while it goes on.
        """
        self.task = task
        self._say = say
        self._env = task.make(held_out) if held_out else task.take()
        self._watch = SlowCallWatch(say)
        self._held_out: GymEnv | None = None
        self._may_hold_out = task.has_held_out and not held_out
        self._raw: Any = None  # newest observation as the environment gave it
        self._t = 0
        self._success = False
        self._return = 0.0
        self._info_keys: set[str] = set()  # that infos of this episode had

    @property
    def raw(self) -> Any:
        """The newest observation as the environment gave it."""
        return self._raw

    @property
    def held_out(self) -> GymEnv | None:
        """The same task with goals that training never shows; None where there are none."""
        if self._may_hold_out and self._held_out is None:
            self._held_out = GymEnv(self.task, held_out=True, say=self._say)
        return self._held_out

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the same seed, the same start.

        Args:
            seed: Of everything random about the episode; without one the environment's own goes on.
            options: Handed on.

        Raises:
            ConfigError: What it returned is not what gymnasium asks of it.
        """
        where = f"{self.task.name}: reset"
        with self._watch.call(where):
            self._raw, info = self._env.reset(seed=seed, options=options)
        check_observation(self.task.parts, self._raw, where)
        self._t, self._success, self._return = 0, False, 0.0
        self._info_keys = set()
        return self._observe(), self._info(info)

    def step(
        self, action: np.ndarray, authority: int = Authority.POLICY
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act once.

        Args:
            action: (A,) in [-1, 1].
            authority: Whom the action is from; the environment doesn't care.

        Returns:
            Observation, reward to learn from, terminated, truncated, info.

        Raises:
            ConfigError: The action has another shape or isn't finite, or what the environment
                returned is not what gymnasium asks of it.
            Error: The observation isn't finite.
        """
        action = np.asarray(action, np.float32)
        if action.shape != (self.task.spec.action,) or not np.isfinite(action).all():
            raise ConfigError(
                f"an action must be {self.task.spec.action} finite values, got {action}"
            )
        config = self.task.config
        own = self.task.actions.to_env(np.clip(action, -1.0, 1.0))
        where = f"{self.task.name}: step {self._t}"
        with self._watch.call(where):
            self._raw, reward, terminated, truncated, info = self._env.step(own)
        check_observation(self.task.parts, self._raw, where)
        self._t += 1
        self._judge(config.success_key, info, terminated or truncated, where)
        if config.terminate_on_success and self._success:
            terminated = True
        truncated = not terminated and truncated
        if config.reward == "sparse":
            reward = float(self._success)
        self._return += reward
        if config.success_return is not None and (terminated or truncated):
            self._success = self._return >= config.success_return
        learned = as_reward(config.reward_scale * reward + config.reward_shift, f"{where}, scaled,")
        made = self._info(info) | {
            "return_reward": reward,
            "filter_delta": np.zeros(self.task.spec.action, np.float32),
            "cost": 0.0,
            "violation": False,
        }
        return self._observe(), learned, terminated, truncated, made

    def render(self) -> np.ndarray:
        """Return a picture, its sides even as films need them (H, W, 3) uint8.

        Raises:
            RuntimeError: The environment has none, or there is no way to render here.
        """
        try:
            picture = self._env.render()
        except Exception as error:  # each environment has a renderer, and errors, of its own
            raise RuntimeError(f"{self.task.name} can't be rendered: {error}") from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise RuntimeError(f"{self.task.name} gives no picture (render mode rgb_array)")
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        return picture[:height, :width]

    def close(self) -> None:
        """Close the environment, and the one with held-out goals."""
        self._watch.close()
        self._env.close()
        if self._held_out is not None:
            self._held_out.close()

    def _observe(self) -> Observation:
        state = flatten(self.task.parts, self._raw, self.task.name)
        if self.task.config.clock:
            left = 1.0 - 2.0 * self._t / self.task.spec.horizon
            state = np.append(state, np.float32(left))
        return {"state": state}

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        return {
            "success": self._success,
            "privileged_state": _numbers(info),
            "script_inputs": (self._raw,),
        }

    def _judge(self, key: str | None, info: dict[str, Any], ended: bool, where: str) -> None:
        """Look for success in an info; some environments tell it in the last one only."""
        if key is None:
            return
        self._success = self._success or bool(info.get(key, False))
        self._info_keys.update(map(str, info))
        if ended and key not in self._info_keys:
            raise missing_key(where, key, self._info_keys)


def _numbers(info: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers of an info, by name."""
    numbers = {}
    for name, value in info.items():
        if isinstance(value, bool | int | float | np.bool_ | np.number):
            number = float(value)
            if np.isfinite(number):
                numbers[str(name)] = number
    return numbers
