"""Train, calibrate and judge a risk critic, and write what came of it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from actor.cli.risk.episodes import select_features
from actor.cli.risk.figure import draw
from controllers.risk import FEATURES
from handrail.config import from_dict, to_dict
from handrail.errors import CheckpointError, ConfigError
from handrail.renamed_keys import to_current
from handrail.risk_critic.file import FILE_NAME, read_critic, write_critic
from handrail.risk_critic.format import RiskCritic, pack_critic, unpack_critic
from handrail.run_folder import write_atomic
from learner.risk.calibrate import Scored, calibrate, score
from learner.risk.config import RiskConfig
from learner.risk.episodes import Episode, split_episodes
from learner.risk.metrics import alarm_metrics


def train(episodes: list[Episode], config: RiskConfig, out: Path) -> dict[str, Any]:
    """Train a critic on episodes, calibrate it on others of them, write all; return the results.

    Args:
        episodes: With and without violations.
        config: Table [risk].
        out: Folder for critic.safetensors, risk.json and risk.png.

    Raises:
        ConfigError: Too few episodes of one kind.
        StorageError: The disk refused.
    """
    from learner.risk.train import fit_critic

    episodes = select_features(episodes, config)
    parts = split_episodes(episodes, config.validation, config.calibration, config.seed)
    trained = fit_critic(parts.train, parts.validation, config, _next_version(out))
    critic, threshold, scored = calibrate(trained.critic, parts.calibration, config)
    results = {
        **alarm_metrics(critic, scored, config),
        "guaranteed": threshold.guaranteed,
        "train_episodes": len(parts.train),
        "train_steps": trained.steps,
        "held_out_loss": round(trained.loss, 5),
    }
    known = [*parts.train, *parts.validation]
    _write(out, critic, scored, config, results, [fingerprint(e) for e in known])
    return results


def recalibrate(
    episodes: list[Episode],
    config: RiskConfig,
    out: Path,
    critic: RiskCritic,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Set a critic's probabilities and threshold anew, write it as a newer one; return the results.

    Args:
        episodes: Those that the critic was trained on are left out.
        config: Table [risk].
        out: Folder of the critic.
        critic: To calibrate.
        about: Its description.

    Raises:
        ConfigError: Too few episodes of one kind are left.
        StorageError: The disk refused.
    """
    fresh = unseen(select_features(episodes, config), about)
    critic = critic._replace(version=critic.version + 1)
    critic, threshold, scored = calibrate(critic, fresh, config)
    results = {**alarm_metrics(critic, scored, config), "guaranteed": threshold.guaranteed}
    _write(out, critic, scored, config, results, about["trained_on"])
    return results


def reevaluate(
    episodes: list[Episode],
    config: RiskConfig,
    out: Path,
    critic: RiskCritic,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Judge a critic as it is and draw it; return the results. Arguments as `recalibrate`.

    Raises:
        ConfigError: Too few episodes of one kind are left.
        StorageError: The disk refused.
    """
    scored = score(critic, unseen(select_features(episodes, config), about))
    results = alarm_metrics(critic, scored, config)
    _write_results(out, critic, scored, config, results)
    return results


def load(out: Path) -> tuple[RiskCritic, dict[str, Any], RiskConfig]:
    """Return a folder's critic, its description and the config that it was made with.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    array, about = read_critic(out / FILE_NAME)
    try:
        config = from_dict(RiskConfig, to_current("risk", about["config"]), "risk")
        about["trained_on"] = [int(mark) for mark in about["trained_on"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{out / FILE_NAME} lacks its description: {error!r}") from None
    return unpack_critic(array), about, config


def fingerprint(episode: Episode) -> int:
    """Return a number by which an episode is known again."""
    start = zlib.crc32(np.packbits(episode.violation).tobytes())
    return zlib.crc32(np.ascontiguousarray(episode.features).tobytes(), start)


def unseen(episodes: list[Episode], about: dict[str, Any]) -> list[Episode]:
    """Return the episodes that a critic was not trained on.

    Raises:
        ConfigError: None is left.
    """
    known = set(about["trained_on"])
    fresh = [episode for episode in episodes if fingerprint(episode) not in known]
    if not fresh:
        raise ConfigError(
            f"the critic was trained on all {len(episodes)} episodes; give it others to judge it by"
        )
    return fresh


def _next_version(out: Path) -> int:
    try:
        return unpack_critic(read_critic(out / FILE_NAME)[0]).version + 1
    except CheckpointError:
        return 1


def _write(
    out: Path,
    critic: RiskCritic,
    scored: Scored,
    config: RiskConfig,
    results: dict[str, Any],
    trained_on: list[int],
) -> None:
    names = {
        name: [columns.start, columns.stop]
        for name, columns in FEATURES.items()
        if columns.stop <= critic.mean.size
    }
    about = {
        "inputs": names,
        "config": to_dict(config),
        "results": results,
        "trained_on": trained_on,
    }
    write_critic(out / FILE_NAME, pack_critic(critic), about)
    _write_results(out, critic, scored, config, results)


def _write_results(
    out: Path, critic: RiskCritic, scored: Scored, config: RiskConfig, results: dict[str, Any]
) -> None:
    write_atomic(out / "risk.json", json.dumps(results, indent=2) + "\n")
    figure = draw(critic, scored, config, results)
    temporary = out / ".risk.tmp.png"
    try:
        figure.savefig(temporary, dpi=160)
        temporary.replace(out / "risk.png")
    finally:
        temporary.unlink(missing_ok=True)
