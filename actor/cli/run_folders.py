"""Open or make the run folder that a command works on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from actor.config import Config, load_config, parse_config
from actor.loop.make_env import needs_host_process, spec_at_door, spec_of
from actor.overrides import values_of
from actor.resolution import flatten, nest
from actor.supervisor.supervisor import default_run_folder
from handrail.config import check, to_dict, to_toml
from handrail.errors import ConfigError, RunFolderError
from handrail.run_folder import Run, create_run, open_run, rewrite_config
from handrail.spec import EnvSpec, dump_spec, load_spec
from robot_env.tasks import make
from robot_env.tasks.base import refuse_unread_keys

MAY_CHANGE = ("run.steps", "run.eval_episodes")  # keys of a run that goes on


def create_configured_run(name: str, overrides: list[str], out: Path | None) -> tuple[Run, Config]:
    """Make a run folder for a task.

    Args:
        name: Shipped config, path of a TOML file, or id of a gymnasium environment.
        overrides: Options from the command line.
        out: Folder to make; below ./runs where it is None.

    Raises:
        ConfigError: No such config, or a bad value in it.
        RunFolderError: The folder exists or can't be made.
    """
    config = load_config(name, overrides)
    spec = spec_at_door(config)
    if needs_host_process(config):
        refuse_unread_keys(make(config.task.name, config.task), config.task)
    folder = out or default_run_folder(config.task.name, config.learner.preset, config.run.seed)
    run = create_run(folder, config.task.name, spec.hash, to_toml(config))
    run.spec.write_text(dump_spec(spec), encoding="utf-8")
    return run, config


def extend_run(run: Run, config: Config, overrides: list[str]) -> tuple[Run, Config]:
    """Return the run with a longer budget; its config.toml says so from then on. Hold its lock.

    The learner's phases are shares of the new budget, as they were of the old one.

    Raises:
        ConfigError: An override is of something that has been learned with, or a shorter budget.
    """
    now, wanted = flatten(to_dict(config)), values_of(Config, overrides)
    for key, value in wanted.items():
        if now.get(key) != value and key not in MAY_CHANGE:
            raise ConfigError(
                f"a resumed run keeps {key} = {now.get(key)!r}, got {value!r}; "
                f"{' and '.join(MAY_CHANGE)} may change, for anything else start a new run"
            )
    longer = parse_config(nest({**now, **wanted}))
    steps, rule = longer.run.steps, f"{config.run.steps} or more, which this run has already"
    check(steps >= config.run.steps, "run.steps", steps, rule)
    longer = replace(longer, learner=replace(longer.learner, total_steps=steps))
    return (run if longer == config else rewrite_config(run, to_toml(longer))), longer


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
