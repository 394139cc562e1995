"""Where each value of a config comes from: layers of values, a later one over the earlier.

    defaults -> task -> preset -> ratio -> file -> file at another ratio -> command line -> budget

Everything here is a pure function of dotted keys and values; `actor.config` makes the config.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from handrail.config import from_dict
from handrail.errors import ConfigError
from learner.presets import preset_values, rescaled, scaled_values
from robot_env.gym.config import SHARED, GymConfig, resolve, unit_value
from robot_env.tasks.kinds import prefix_of

# What a gymnasium environment changes in [learner], unless it is given there. Without one reward
# of 1 at the end values aren't in [0, 1], and entropy in them misleads nobody. From scratch the
# first steps show too little of the state to scale by: a pendulum's top was 10 deviations off.
DENSE: dict[str, Any] = {
    "learner.v_range": None,
    "learner.success_is_terminal": False,
    "learner.backup_entropy": True,
}
FROM_SCRATCH: dict[str, Any] = {"learner.normaliser_floor": 1.0}


ARM_TABLES = ("robot", "franka", "control", "operator", "host", "risk")


class Layer(NamedTuple):
    """Values that come from one place."""

    origin: str  # for people
    values: Mapping[str, Any]  # by dotted key; None: the key is unset again


class Given(NamedTuple):
    """A value and where it comes from."""

    value: Any
    origin: str


def fold(layers: Iterable[Layer]) -> dict[str, Given]:
    """Return each key's last value with its origin."""
    return {k: Given(v, layer.origin) for layer in layers for k, v in layer.values.items()}


def layers_of(defaults: Layer, file: Layer, command_line: Layer) -> list[Layer]:
    """Return all layers of a config, lowest first, but for the budget's.

    Args:
        defaults: Of every key.
        file: What a file says.
        command_line: What was said beside it.

    Raises:
        ConfigError: No such preset, a ratio that isn't positive, or a [gym] that can't be.
    """
    given = {key: value for key, (value, _) in fold([file, command_line]).items()}
    preset = given.get("learner.preset", defaults.values["learner.preset"])
    utd = command_line.values.get("learner.utd")
    written = {**nest(file.values).get("learner", {}), "preset": preset}
    return [
        defaults,
        Layer("for this kind of task", _task_values({**defaults.values, **given}, given)),
        Layer(f"preset {preset}", _of_learner(preset_values(preset))),
        Layer(
            "scaled to learner.utd", _of_learner(scaled_values(preset, given.get("learner.utd")))
        ),
        file,
        Layer(f"{file.origin}, scaled to learner.utd", _of_learner(rescaled(written, utd))),
        command_line,
    ]


def refuse_other_kind(defaults: Layer, file: Layer, command_line: Layer) -> None:
    """Refuse keys that the task's kind doesn't read.

    A file may have them at their defaults: a run folder's config.toml has every key.

    Raises:
        ConfigError: Names the key, where it is from, and what it is for.
    """
    given = fold([defaults, file, command_line])
    name = given["task.name"].value
    gym = isinstance(name, str) and prefix_of(name) is not None
    for layer in (file, command_line):
        for key, value in layer.values.items():
            table, _, field = key.partition(".")
            of_arm = table in ARM_TABLES or (table == "task" and field not in SHARED)
            if not (of_arm if gym else table == "gym") or key not in defaults.values:
                continue
            plain = json.loads(json.dumps(defaults.values[key]))
            if layer is command_line or value != plain:
                kind = "no task of the arm" if gym else "no gymnasium environment"
                where = f"{key} ({layer.origin})"
                raise ConfigError(
                    f"{where} means nothing to {name!r}, which is {kind}; leave it out"
                )


def budget(given: Mapping[str, Given]) -> Layer:
    """Return the layer by which the learner's phases are shares of the run's budget."""
    steps = given["run.steps"].value
    whole = type(steps) is int and steps >= 1  # else the config says what is wrong with it
    return Layer("run.steps", {"learner.total_steps": steps} if whole else {})


def flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys and values of a config's tables; `nest` turns it back."""
    flat: dict[str, Any] = {}
    for name, table in tables.items():
        if isinstance(table, Mapping) and table:
            flat |= {f"{name}.{key}": value for key, value in table.items()}
        else:
            flat[name] = table  # no table, or an empty one: the config says whether that is right
    return flat


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables of dotted keys, without those that are None."""
    tables: dict[str, Any] = {}
    for dotted, value in values.items():
        name, dot, key = dotted.partition(".")
        if not dot:
            tables[name] = value
        elif isinstance(tables.setdefault(name, {}), dict) and value is not None:
            tables[name][key] = value
    return tables


def _task_values(all_values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    name = all_values.get("task.name")
    if not isinstance(name, str) or prefix_of(name) is None:
        return {}
    gym = from_dict(GymConfig, nest(given).get("gym", {}), "gym")
    changes = {} if unit_value(resolve(name, gym)) else dict(DENSE)
    return changes | (FROM_SCRATCH if all_values["run.demos"] == 0 else {})


def _of_learner(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"learner.{key}": value for key, value in values.items()}
