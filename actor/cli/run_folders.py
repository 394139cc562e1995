"""Open or make the run folder that a command works on."""

from __future__ import annotations

from pathlib import Path

from actor.config import Config, load_config, parse_config
from actor.loop.make_env import spec_at_door, spec_of
from actor.supervisor.supervisor import default_run_folder
from handrail.config import to_toml
from handrail.errors import RunFolderError
from handrail.run_folder import Run, create_run, open_run
from handrail.spec import EnvSpec, dump_spec, load_spec


def create_configured_run(
    name: str, overrides: list[str], out: Path | None, command: str
) -> tuple[Run, Config]:
    """Make a run folder for a task.

    Args:
        name: Shipped config, path of a TOML file, or id of a gymnasium environment.
        overrides: Options from the command line.
        out: Folder to make; below ./runs where it is None.
        command: Name of the command, for messages.

    Raises:
        ConfigError: No such config, or a bad value in it.
        RunFolderError: The folder exists or can't be made.
    """
    config = load_config(name, overrides, command)
    spec = spec_at_door(config)
    folder = out or default_run_folder(config.task.name, config.learner.preset, config.run.seed)
    run = create_run(folder, config.task.name, spec.hash, to_toml(config))
    run.spec.write_text(dump_spec(spec), encoding="utf-8")
    return run, config


def read_configured_run(folder: Path) -> tuple[Run, Config, EnvSpec]:
    """Open a run folder to read what is in it: nothing of its task is imported or made.

    So it works on every host of the run, whatever is installed there, and beside an environment
    that only one process can hold.

    Raises:
        RunFolderError: No run folder, of a newer format, or its spec is of another task.
        ConfigError: Its config or spec is damaged.
    """
    run = open_run(folder)
    config, spec = parse_config(run.config_tables()), load_spec(run.spec)
    if spec.hash != run.task_hash:
        raise RunFolderError(
            f"{run.folder} was made for task {run.task} with hash {run.task_hash}, its spec.json "
            f"has {spec.hash}: one of them has been changed since"
        )
    return run, config, spec


def open_configured_run(folder: Path) -> tuple[Run, Config]:
    """Open a run folder to go on with it: it must mean the same task to this version.

    Raises:
        RunFolderError: No run folder, of a newer format, or of a task that has changed.
        ConfigError: Its config is damaged.
    """
    run = open_run(folder)
    config = parse_config(run.config_tables())
    spec = spec_of(config)
    if spec.hash != run.task_hash:
        raise RunFolderError(
            f"{run.folder} was made for task {run.task} with hash {run.task_hash}, here it has "
            f"{spec.hash}: its config or this version's task has changed since"
        )
    return run, config
