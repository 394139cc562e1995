"""What a task file may say about a gymnasium environment: table `[gym]`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tyro.constructors import PrimitiveConstructorSpec

from handrail.config import check
from handrail.errors import ConfigError
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import GYM, METAWORLD, prefix_of

SHARED = ("name", "control_hz", "horizon")  # keys of [task] that mean something here too
DEFAULTS: dict[str, dict[str, Any]] = {  # what [gym] leaves out, by prefix
    GYM: {"reward": "env", "terminate_on_success": False},
    METAWORLD: {"reward": "sparse", "terminate_on_success": True, "success_key": "success"},
}

HORIZONS = {METAWORLD: 150}  # [steps], of environments whose own is no use; experts take 55 to 115

Scalar = bool | int | float | str
_Value = Scalar | tuple[Scalar, ...] | tuple[tuple[Scalar, ...], ...]


def _of_words(words: list[str]) -> Any:
    """Return the value of a word of the command line; lists are written as in TOML."""
    (word,) = words
    if word in ("True", "False"):
        return word == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    if not word.startswith("["):
        return word
    try:
        return _frozen(json.loads(word))
    except ValueError:
        raise ValueError(f'a list is written as [1.0, 2.0] or ["a", "b"], got {word}') from None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


Value = Annotated[
    _Value,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="VALUE",
        instance_from_str=_of_words,
        is_instance=lambda value: isinstance(value, bool | int | float | str | tuple),
        str_from_instance=lambda value: [
            json.dumps(value) if isinstance(value, tuple) else str(value)
        ],
    ),
]


@dataclass(frozen=True)
class GymConfig:
    """How a gymnasium environment is made and judged; None stands for the environment's default."""

    success_key: str | None = None  # entry of info that says that the goal is reached
    success_return: float | None = None  # [reward], an episode's return that counts as success
    terminate_on_success: bool | None = None  # end the episode there; gym: false, metaworld: true
    reward: Literal["env", "sparse"] | None = None  # sparse: 1 on success, else 0; as metaworld
    reward_scale: float = 1.0  # [-], what is learned from is scale * reward + shift
    reward_shift: float = 0.0  # [reward]
    clock: bool = False  # observe the time left, 1 at the start and -1 at the horizon
    kwargs: dict[str, Value] = field(default_factory=dict)  # arguments of the environment
    held_out: dict[str, Value] = field(default_factory=dict)  # those that change for held-out goals

    def __post_init__(self) -> None:
        check(self.reward_scale > 0.0, "reward_scale", self.reward_scale, "positive")
        by_return = self.success_return is not None
        rule = "left out where success_key is given: one thing says what success is"
        check(not (by_return and self.success_key), "success_return", self.success_return, rule)
        check(
            not (by_return and (self.reward == "sparse" or self.terminate_on_success)),
            "success_return",
            self.success_return,
            "left out with reward = sparse or terminate_on_success: a return is known at the end "
            "only; give success_key",
        )


def resolve(name: str, config: GymConfig) -> GymConfig:
    """Return the config with the defaults of its kind of environment where it says None.

    Raises:
        ConfigError: Something follows from success, but nothing says what success is.
    """
    prefix = prefix_of(name)
    assert prefix is not None
    missing = {k: v for k, v in DEFAULTS[prefix].items() if getattr(config, k) is None}
    if config.success_return is not None:
        missing.pop("success_key", None)
    resolved = dataclasses.replace(config, **missing)
    for key, wants in (
        ("reward", resolved.reward == "sparse"),
        ("terminate_on_success", resolved.terminate_on_success is True),
    ):
        check(
            not wants or resolved.success_key is not None,
            f"gym.{key}",
            getattr(resolved, key),
            "left out without gym.success_key, the entry of info that says that the goal is "
            'reached (often "success" or "is_success")',
        )
    return resolved


def unit_value(config: GymConfig) -> bool:
    """Return whether a resolved config's values lie in [0, 1]: one reward of 1, at the end."""
    sparse = config.reward == "sparse" and config.terminate_on_success is True
    return sparse and config.reward_scale == 1.0 and config.reward_shift == 0.0


def refuse_robot_keys(task: TaskConfig) -> None:
    """Refuse keys of [task] that only a robot's task reads.

    Raises:
        ConfigError: Names the key.
    """
    for item in dataclasses.fields(task):
        if item.name not in SHARED and getattr(task, item.name) != item.default:
            raise ConfigError(
                f"[task] {item.name} means nothing to {task.name!r}, which is no task of the "
                f"simulated arm; [task] has {', '.join(SHARED)} for it, the rest is in [gym]"
            )
