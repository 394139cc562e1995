"""Write a run's data about collisions, file by file, for the risk critic.

A file is whole or not there, made from its number alone: what is there is kept, and a
command that was stopped goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actor.cli.risk.collisions import collide
from actor.config import Config
from handrail.errors import ConfigError, StorageError
from handrail.run_folder import Run
from learner.risk.episodes import Episode, load_episodes, save_episodes
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.maze import Maze

WINDOWS_PER_FILE = 1000  # [windows], of one file


def record_collisions(run: Run, config: Config, windows: int) -> list[Path]:
    """Return the files that hold the windows, made where they weren't there yet.

    Args:
        run: Gets them in `risk/data/`, where training looks.
        config: Of the run.
        windows: How many in all, 20 ms each.

    Raises:
        ConfigError: Fewer than two windows, or a task that isn't a maze.
        StorageError: A file there is of another task or seed, or the disk refused.
    """
    if windows < 2:
        raise ConfigError(f"--collisions must be 2 windows or more, got {windows}")
    task = make(config.task.name, config.task)
    if not isinstance(task, Maze):
        raise ConfigError(
            f"collisions are recorded in the task 'maze', got {config.task.name!r}; other tasks "
            "have `handrail risk collect`"
        )
    core, paths = HostCore(task, config.robot, config.control), []
    try:
        for part, count in enumerate(_windows_of_files(windows)):
            about = {
                "task": task.name,
                "task_hash": task.spec.task_hash,
                "seed": config.run.seed,
                "part": part,
                "windows": count,
            }
            path = run.folder / "risk" / "data" / f"collisions-{part:04d}.safetensors"
            if not _is_there(path, about):
                made = collide(core, config.run.seed, part, count)
                episodes = [Episode(*stretch, config.control.dt) for stretch in made]
                save_episodes(path, episodes, about)
            paths.append(path)
    finally:
        core.close()
    return paths


def _windows_of_files(windows: int) -> list[int]:
    whole, rest = divmod(windows, WINDOWS_PER_FILE)
    if rest == 1:  # no file is halved into nothing
        return [*[WINDOWS_PER_FILE] * whole, 2]
    return [WINDOWS_PER_FILE] * whole + [rest] * (rest > 0)


def _is_there(path: Path, about: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    _, found = load_episodes(path)
    found = {key: found.get(key) for key in about}
    if found != about:
        raise StorageError(f"{path} holds {found}, not {about}; move it away, or use another run")
    return True
