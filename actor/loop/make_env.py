"""A config's task, and its environment in this process: the simulated arm, or a gymnasium one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from actor.config import Config
from handrail.errors import ConfigError
from handrail.spec import EnvSpec
from robot_env.env import RobotEnv
from robot_env.gym.env import GymEnv
from robot_env.gym.make import UnknownEnvironment
from robot_env.gym.probe import probe_env
from robot_env.gym.task import GymTask
from robot_env.protocol import Env
from robot_env.tasks import make
from robot_env.tasks.base import Task
from robot_env.tasks.kinds import METAWORLD, prefix_of

log = logging.getLogger("actor")


def make_task(config: Config) -> Task | GymTask:
    """Return what a config asks for.

    Raises:
        ConfigError: No such task, or the config wants of it what it can't give.
    """
    if prefix_of(config.task.name) is None:
        return make(config.task.name, config.task)
    _refuse_people(config)
    return GymTask(config.task, config.gym)


def needs_host_process(config: Config) -> bool:
    """Return whether a control host of its own runs the task; a gymnasium one is the actor's."""
    return prefix_of(config.task.name) is None


def spec_of(config: Config) -> EnvSpec:
    """Return the spec of a config's task; no environment is left open.

    Raises:
        ConfigError: As `make_task`.
    """
    task = make_task(config)
    if isinstance(task, GymTask):
        task.close()
    return task.spec


def spec_at_door(config: Config) -> EnvSpec:
    """Return the spec of a config's task before a run, and try a gymnasium environment first.

    Raises:
        ConfigError: As `make_task`, or the environment misbehaves.
    """
    if prefix_of(config.task.name) is None:
        return spec_of(config)
    _refuse_people(config)
    try:
        return probe_env(config.task, config.gym, lambda text: print(text, file=sys.stderr)).spec
    except UnknownEnvironment:  # to a new process; a script may have registered it in this one
        return spec_of(config)


def make_env(
    config: Config,
    task: Task | GymTask,
    critic_of: Path | None = None,
    say: Callable[[str], None] = log.warning,
) -> Env:
    """Return the environment of a task in this process.

    Args:
        config: Of the run.
        task: From `make_task`.
        critic_of: Run folder whose risk critic guards a simulated arm; None for none.
        say: Told of a gymnasium environment's call that doesn't return, from another thread.
    """
    if isinstance(task, GymTask):
        return GymEnv(task, say=say)
    from robot_env.host.core import HostCore  # the actor of a hosted arm doesn't pay for its import

    host = HostCore(task, config.robot, config.control)
    if critic_of is not None:
        host.load_critic_of(critic_of)
    return RobotEnv(host, task)


def _refuse_people(config: Config) -> None:
    """Refuse what wants somebody to demonstrate or to take over where there is nobody."""
    name = config.task.name
    if config.run.demos > 0 and prefix_of(name) != METAWORLD:
        raise ConfigError(
            f"{name} has no scripted expert to demonstrate, got run.demos = "
            f"{config.run.demos}; it must be 0, with a preset that needs no base, such as rlpd"
        )
    if config.operator.enabled:
        raise ConfigError(
            f"the scripted operator drives the arm only, and {name} has none; it must be "
            f"--operator.no-enabled"
        )
