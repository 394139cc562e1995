"""Episodes at control rate: what the risk critic learns from, and their files.

A file is one safetensors file: `0000/features` (T, F) float32 and `0000/violation` (T,) bool for
each episode, and a JSON description in its header. Nothing in it can run code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from handrail.errors import StorageError
from learner.risk.labels import outcomes, ticks_to, window_labels

FORMAT = 1  # of the files; a reader refuses newer ones
_KIND = "handrail risk episodes"


class Episode(NamedTuple):
    """What happened at every tick."""

    features: np.ndarray  # (T, F) float32, see controllers.risk.FEATURES
    violation: np.ndarray  # (T,) bool
    dt: float  # [s], between ticks

    @property
    def violates(self) -> bool:
        """Whether any tick does."""
        return bool(self.violation.any())

    @property
    def seconds(self) -> float:
        """How long it is [s]."""
        return len(self.violation) * self.dt


class Windows(NamedTuple):
    """Transitions from a tick to the one a window later; indices into `features`."""

    features: np.ndarray  # (N, F) float32, of all episodes
    now: np.ndarray  # (M,) int
    after: np.ndarray  # (M,) int
    violates: np.ndarray  # (M,) bool, any tick of the window
    outcome: np.ndarray  # (M,) float, see labels.outcomes


class Split(NamedTuple):
    """Episodes apart, so that nothing is judged by what it was made from."""

    train: list[Episode]
    validation: list[Episode]
    calibration: list[Episode]


def save_episodes(path: Path, episodes: Sequence[Episode], about: dict[str, Any]) -> None:
    """Write episodes to a file, whole or not at all.

    Args:
        path: Name of the file; its folder is made.
        episodes: At least one.
        about: Plain values that say where they are from.

    Raises:
        StorageError: There are none, they don't fit each other, or the disk refused.
    """
    _check(path, list(episodes))
    arrays: dict[str, np.ndarray] = {}
    for i, episode in enumerate(episodes):
        arrays[f"{i:04d}/features"] = np.ascontiguousarray(episode.features, np.float32)
        arrays[f"{i:04d}/violation"] = np.ascontiguousarray(episode.violation, bool)
    description = {"format": FORMAT, "dt": episodes[0].dt, "episodes": len(episodes), **about}
    header = {"kind": _KIND, "about": json.dumps(description)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as out:
            out.write(safetensors.numpy.save(arrays, header))
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"can't write risk episodes to {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_episodes(path: Path) -> tuple[list[Episode], dict[str, Any]]:
    """Return a file's episodes and its description.

    Raises:
        StorageError: Not such a file, damaged, or of a newer format.
    """
    try:
        with safetensors.safe_open(str(path), "numpy") as file:
            header = file.metadata() or {}
            if header.get("kind") != _KIND:
                raise StorageError(f"{path} holds no risk episodes")
            about = json.loads(header["about"])
            if int(about["format"]) > FORMAT:
                raise StorageError(f"{path} has format {about['format']}, this reads {FORMAT}")
            episodes = [
                Episode(
                    file.get_tensor(f"{i:04d}/features"),
                    file.get_tensor(f"{i:04d}/violation"),
                    float(about["dt"]),
                )
                for i in range(int(about["episodes"]))
            ]
    except StorageError:
        raise
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise StorageError(f"can't read risk episodes from {path}: {error}") from None
    _check(path, episodes)
    return episodes, about


def windows_of(episodes: Sequence[Episode], ticks: int, discount: float) -> Windows:
    """Return the windows of the episodes that end inside their episode or violate.

    Of a violation that lasts only the first window is kept: how it began is the lesson.

    Args:
        episodes: At least one, of one number of features.
        ticks: Of a window.
        discount: Per window [-].
    """
    now, after, violates, outcome, start = [], [], [], [], 0
    for episode in episodes:
        count = len(episode.violation)
        at = np.arange(count)
        label = window_labels(episode.violation, ticks)
        since = ticks_to(~episode.violation[::-1])[::-1]  # ticks that a violation has lasted
        use = ((at + ticks < count) | label) & (since < ticks)
        now.append(start + at[use])
        after.append(start + np.minimum(at + ticks, count - 1)[use])
        violates.append(label[use])
        outcome.append(outcomes(episode.violation, ticks, discount)[use])
        start += count
    features = np.concatenate([episode.features for episode in episodes])
    joined = [np.concatenate(part) for part in (now, after, violates, outcome)]
    return Windows(features, *joined)


def split_episodes(
    episodes: Sequence[Episode], validation: float, calibration: float, seed: int
) -> Split:
    """Return the episodes in three parts, with violating and safe ones in each where they last.

    Args:
        episodes: All.
        validation: Share that ends training [-].
        calibration: Share that sets the threshold [-].
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    parts: Split = Split([], [], [])
    for violates in (True, False):
        group = [episode for episode in episodes if episode.violates == violates]
        order = rng.permutation(len(group))
        first = round(validation * len(group))
        second = first + round(calibration * len(group))
        parts.validation.extend(group[i] for i in order[:first])
        parts.calibration.extend(group[i] for i in order[first:second])
        parts.train.extend(group[i] for i in order[second:])
    return parts


def _check(path: Path, episodes: list[Episode]) -> None:
    if not episodes:
        raise StorageError(f"{path}: there are no episodes")
    width = episodes[0].features.shape[-1]
    for i, (features, violation, dt) in enumerate(episodes):
        if features.shape != (len(violation), width) or violation.ndim != 1 or not 0 < dt < np.inf:
            raise StorageError(
                f"{path}: episode {i} must have features (T, {width}) and violation (T,), "
                f"got {features.shape} and {violation.shape} at dt {dt}"
            )
        if len(violation) == 0 or not np.isfinite(features).all():
            raise StorageError(f"{path}: episode {i} is empty, or holds a NaN or an infinity")
