"""Gymnasium environments by id, with errors that say what would be right."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled
from gymnasium.error import Error as GymnasiumError

from handrail.errors import ConfigError

os.environ.setdefault("MUJOCO_GL", "egl")  # headless; mujoco reads it when it is imported


class UnknownEnvironment(ConfigError):
    """No environment has that id in this process."""


def make_registered(env_id: str, kwargs: dict[str, Any]) -> tuple[Any, int | None]:
    """Return a registered environment without its time limit, and that limit [steps], if any.

    It gives pictures where it can.

    Args:
        env_id: As `gymnasium.make` takes it: "Pendulum-v1", or "module:Env-v0", which imports the
            module first.
        kwargs: Further arguments of it.

    Raises:
        UnknownEnvironment: No such environment.
        ConfigError: A package of it is missing, or an argument is wrong.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            _import(module)
        spec = gymnasium.spec(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"gymnasium environment {env_id!r} is of a module that can't be imported: {error}; it "
            f"has to be installed, or stand in the folder where the command is started "
            f"({os.getcwd()})"
        ) from None
    except GymnasiumError:
        raise UnknownEnvironment(f"no gymnasium environment {env_id!r}; {_hint(env_id)}") from None
    own = {"disable_env_checker": True, "max_episode_steps": -1, **_picture(spec)}
    try:
        return gymnasium.make(spec, **{**own, **kwargs}), spec.max_episode_steps
    except (DependencyNotInstalled, ModuleNotFoundError) as error:
        raise ConfigError(f"gymnasium environment {env_id!r} lacks a package: {error}") from None
    except (GymnasiumError, TypeError, ValueError) as error:
        given = f" with {kwargs}" if kwargs else ""
        raise ConfigError(
            f"gymnasium environment {env_id!r}{given} can't be made: {error}"
        ) from None


def _import(module: str) -> None:
    """Import a module, also from the current folder, which no installed command looks into."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.import_module(module)


def _picture(spec: Any) -> dict[str, str]:
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    modes = getattr(creator, "metadata", {}).get("render_modes", ())
    return {"render_mode": "rgb_array"} if "rgb_array" in modes else {}


def _hint(env_id: str) -> str:
    known = list(gymnasium.registry)
    near = difflib.get_close_matches(env_id, known, n=3)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return (
        f"{len(known)} are registered; one of another package is given as 'module:Id', the module "
        f"being what registers it"
    )
