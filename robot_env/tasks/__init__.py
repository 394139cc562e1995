"""Tasks by name. `make` is the door; `register` is how a user adds one."""

from __future__ import annotations

import difflib
import importlib

from handrail.errors import ConfigError
from robot_env.tasks.base import Task
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import prefix_of

_TASKS = {  # name -> where its class is; imported when asked for
    "reach": "robot_env.tasks.reach:Reach",
    "peg": "robot_env.tasks.peg:Peg",
    "pick": "robot_env.tasks.pick:Pick",
    "assemble": "robot_env.tasks.assemble:Assemble",
    "maze": "robot_env.tasks.maze:Maze",
}


def names() -> list[str]:
    """Return the names of all tasks, in the order they were registered."""
    return list(_TASKS)


def register(name: str, where: str) -> None:
    """Make a task known.

    Args:
        name: What the config's `[task] name` calls it.
        where: `package.module:Class`.

    Raises:
        ConfigError: Another task has that name, or `where` has another form.
    """
    if _TASKS.get(name, where) != where:
        raise ConfigError(f"task {name!r} is {_TASKS[name]} already; choose another name")
    if where.count(":") != 1:
        raise ConfigError(f"a task is given as 'package.module:Class', got {where!r}")
    _TASKS[name] = where


def make(name: str, config: TaskConfig | None = None) -> Task:
    """Return a task.

    Args:
        name: One of `names()`, or `package.module:Class` of a task of your own.
        config: Its table; None for the task's defaults. Its `name` must be the same.

    Raises:
        ConfigError: No such task, or the config is another task's.
    """
    if prefix_of(name) is not None:
        raise ConfigError(f"{name!r} is a gymnasium environment, and this needs the arm's tasks")
    where = name if ":" in name else _TASKS.get(name)
    if where is None:
        near = difflib.get_close_matches(name, _TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "your own is given as 'module:Class'"
        raise ConfigError(f"no task {name!r}; known: {', '.join(_TASKS)}; {hint}")
    config = TaskConfig(name=name) if config is None else config
    if config.name != name:
        raise ConfigError(f"task {name!r} was given the config of task {config.name!r}")
    module, _, attribute = where.partition(":")
    try:
        task = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"can't load task {name!r} from {where}: {error}") from None
    return task(config)


def resolve(config: TaskConfig) -> TaskConfig:
    """Return the config with its task's defaults filled in.

    Raises:
        ConfigError: As `make`.
    """
    return make(config.name, config).config
