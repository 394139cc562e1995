"""Make episodes for the risk critic: from flight recordings, and from scripted pushes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from actor.cli.risk.pushes import STEPS, push_episode
from actor.config import Config, parse_config
from controllers.config import ControlConfig
from controllers.joint_limits import PANDA, JointLimits
from controllers.kinematics import TOOL
from controllers.packed import PARAMS_SIZE, unpack_joint_limits
from controllers.risk import NUM_FEATURES, NUM_RELATIVE_FEATURES, features_of_recording
from handrail.errors import ConfigError
from handrail.risk_critic.violation import Limits, violates
from handrail.run_folder import Run, open_run
from learner.risk.config import RiskConfig
from learner.risk.episodes import Episode, load_episodes
from robot_env.host.core import HostCore
from robot_env.recorder.recording import Recording
from robot_env.recorder.ring_record import memory_ring_view
from robot_env.tasks import make


def episode_from_signals(
    part: dict[str, np.ndarray],
    control: ControlConfig,
    config: RiskConfig,
    tool: tuple[float, ...] = TOOL,
    joints: JointLimits = PANDA,
) -> Episode:
    """Return the episode of what was recorded, oldest tick first.

    Args:
        part: "q", "dq" (T, 7), "wrench" (T, 6), "target" (T, 7), "stiffness" (T, 3) in effect
            [N/m], "tank", "gate", "fault" (T,).
        control: Table [control], of the same run.
        config: Table [risk]: what a violation is.
        tool: Tool centre in the hand's frame [m].
        joints: Limits of the arm.
    """
    inputs = np.empty((len(part["tank"]), NUM_FEATURES))
    features_of_recording(
        part["q"],
        part["dq"],
        part["wrench"],
        part["target"],
        part["stiffness"],
        part["tank"],
        np.asarray(tool, np.float64),
        np.asarray(control.box_low, np.float64),
        np.asarray(control.box_high, np.float64),
        inputs,
    )
    limits = Limits(
        force=config.force_limit,
        tank=control.tank_min + config.tank_margin,
        q_low=joints.low + config.joint_margin,
        q_high=joints.high - config.joint_margin,
    )
    bad = violates(
        limits,
        np.linalg.norm(part["wrench"][:, :3], axis=1),
        tank=part["tank"],
        gate=part["gate"],
        q=part["q"],
        fault=part["fault"],
    )
    return Episode(inputs.astype(np.float32), bad, control.dt)


def collect(config: Config, episodes: int, seed: int) -> list[Episode]:
    """Return episodes of scripted pushes on a task's simulated arm.

    Args:
        config: Of the run: task, robot, control and what a violation is.
        episodes: How many.
        seed: Of the first one; the others count on from it.
    """
    core = HostCore(make(config.task.name, config.task), config.robot, config.control)
    core.robot.ring_view = memory_ring_view((core.ticks + 1) * STEPS)
    made = []
    try:
        for number in range(seed, seed + episodes):
            part = signals_from_recording(push_episode(core, number))
            made.append(episode_from_signals(part, config.control, config.risk, core.robot.tool))
    finally:
        core.close()
    return made


def signals_from_recording(recording: Recording | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what `episode_from_signals` wants of a flight recording, or of `newest_ticks`."""
    part = {name: recording[name].copy() for name in ("target", "tank", "gate", "fault")}
    part |= {name: recording[f"reading.{name}"].copy() for name in ("q", "dq", "wrench")}
    part["stiffness"] = recording["stiffness_scale"][:, None] * recording["stiffness"][:, :3]
    return part


def select_features(episodes: list[Episode], config: RiskConfig) -> list[Episode]:
    """Return the episodes with the features that the config lets the critic see."""
    width = NUM_FEATURES if config.use_place else NUM_RELATIVE_FEATURES
    return [episode._replace(features=episode.features[:, :width]) for episode in episodes]


def read_sources(sources: list[Path], config: RiskConfig) -> list[Episode]:
    """Return the episodes of run folders and data files, in that order.

    Args:
        sources: Run folders, or files that `handrail risk collect` wrote.
        config: Table [risk]: what a violation is in a run's recordings.

    Raises:
        StorageError: A file is damaged.
        RunFolderError: A folder is no run.
        ConfigError: They hold no episode at all.
    """
    episodes = [episode for source in sources for episode in _read(source, config)]
    if not episodes:
        raise ConfigError(
            f"no episodes in {', '.join(map(str, sources))}; a run folder has them in risk/data/ "
            f"and recordings/, `handrail risk collect` makes some"
        )
    return episodes


def data_folder(run: Run) -> Path:
    """Return where a run keeps episodes for its critic."""
    return run.folder / "risk" / "data"


def config_of(source: Path) -> Config | None:
    """Return the config of a run folder, or None for a data file.

    Raises:
        RunFolderError: A folder, but of no run.
    """
    return parse_config(open_run(source).config_tables()) if source.is_dir() else None


def _read(source: Path, config: RiskConfig) -> Iterator[Episode]:
    run_config = config_of(source)
    if run_config is None:
        yield from load_episodes(source)[0]
        return
    run = open_run(source)
    for path in sorted(data_folder(run).glob("*.safetensors")):
        yield from load_episodes(path)[0]
    control = run_config.control
    for path in sorted((run.folder / "recordings").glob("*.mcap")):
        recording = Recording(path)
        if len(recording):
            params = recording.params
            joints = unpack_joint_limits(params) if params.size == PARAMS_SIZE else PANDA
            yield episode_from_signals(
                signals_from_recording(recording), control, config, joints=joints
            )
