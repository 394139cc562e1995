"""What a gymnasium environment must return, checked at every reset and step.

Each message names the environment, the call, what it returned and what would be right.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from handrail.errors import ConfigError
from robot_env.gym.spaces import Part, at_path

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_STEP = "(observation, reward, terminated, truncated, info)"


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks what an environment returns before any wrapper of gymnasium unpacks it."""

    def __init__(self, env: Any, name: str) -> None:
        """Wrap.

        Args:
            env: The environment.
            name: Of it, for messages.
        """
        super().__init__(env)
        self._name, self._t = name, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see `unpack_reset`."""
        self._t = 0
        return unpack_reset(self.env.reset(seed=seed, options=options), f"{self._name}: reset")

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once; see `unpack_step`."""
        returned = self.env.step(action)
        self._t += 1
        return unpack_step(returned, f"{self._name}: step {self._t - 1}")


def unpack_reset(returned: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """Return observation and info of a reset.

    Args:
        returned: By the environment.
        where: Environment and call, for messages: "gym:Pendulum-v1: reset".

    Raises:
        ConfigError: It is no pair of an observation and a dict.
    """
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
        raise ConfigError(
            f"{where} returned {_describe(returned)}; right is (observation, info) with a dict, as "
            f"gymnasium has it, not the observation alone as gym before 0.26"
        )
    return returned


def unpack_step(returned: Any, where: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Return observation, reward, terminated, truncated and info of a step.

    Args:
        returned: By the environment.
        where: Environment and call, for messages: "gym:Pendulum-v1: step 3".

    Raises:
        ConfigError: Another number of values, or one of another kind.
    """
    if not (isinstance(returned, tuple) and len(returned) == 5):
        old = isinstance(returned, tuple) and len(returned) == 4
        hint = "; that is gym before 0.26, whose done is terminated or truncated" if old else ""
        raise ConfigError(f"{where} returned {_describe(returned)}; right is {_STEP}{hint}")
    observation, reward, terminated, truncated, info = returned
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            raise ConfigError(f"{where} returned {name} = {_describe(flag)}; right is a bool")
    if not isinstance(info, dict):
        raise ConfigError(f"{where} returned info = {_describe(info)}; right is a dict")
    return observation, as_reward(reward, where), bool(terminated), bool(truncated), info


def as_reward(reward: Any, where: str) -> float:
    """Return a reward as a float that float32 can hold.

    Raises:
        ConfigError: It is no number, or one that rows and weights can't hold.
    """
    right = "right is one finite number such as a float"
    number = isinstance(reward, int | float | np.integer | np.floating | np.bool_) or (
        isinstance(reward, np.ndarray) and reward.shape == () and reward.dtype.kind in "fiub"
    )
    if not number:
        raise ConfigError(f"{where} returned the reward {_describe(reward)}; {right}")
    value = float(reward)
    if not math.isfinite(value):
        raise ConfigError(f"{where} returned the reward {value}; {right}")
    if abs(value) > _FLOAT32_MAX:
        raise ConfigError(
            f"{where} returned the reward {value:g}, more than float32 holds "
            f"({_FLOAT32_MAX:.3g}); {right}, best within a few thousand "
            f"(gymnasium.wrappers.TransformReward)"
        )
    return value


def check_observation(parts: tuple[Part, ...], observation: Any, where: str) -> list[str]:
    """Check an observation against its space and return what is only untidy.

    Args:
        parts: Of the observation space.
        observation: As the environment gave it.
        where: Environment and call, for messages.

    Raises:
        ConfigError: A part is missing, of another shape, or no numbers.
    """
    notes = []
    for part in parts:
        name = f"{where} returned the observation"
        if part.path:
            name += f"'s {part.name}"
        right = f"right is {part.space}, as its observation_space says"
        try:
            value = np.asarray(at_path(observation, part.path))
        except (KeyError, IndexError, TypeError, ValueError):
            raise ConfigError(f"{name} as {_describe(observation)}; {right}") from None
        if value.dtype.kind not in "fiub" or value.shape != part.space.shape:
            raise ConfigError(f"{name} as {_describe(value)}; {right}")
        if not np.can_cast(value.dtype, part.space.dtype or value.dtype, "same_kind"):
            notes.append(
                f"{name} in {value.dtype}; its space says {part.space.dtype}: "
                f"gymnasium.wrappers.DtypeObservation makes it so"
            )
    return notes


def missing_key(where: str, key: str, seen: set[str]) -> ConfigError:
    """Return the error of an episode whose infos never had the entry that says success."""
    found = ", ".join(map(repr, sorted(seen))) or "nothing"
    return ConfigError(
        f"{where} ended the episode, and no info of it had {key!r}, which gym.success_key asks "
        f"for; they had {found}. Leave success_key out where returns alone are to be reported"
    )


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple):
        return f"{len(value)} values ({', '.join(type(item).__name__ for item in value)})"
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(repr, value)) or 'nothing'}"
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"
