"""Episodes as open files: one `.npz` each, and `index.jsonl` that says what is in which."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from handrail.errors import StorageError
from handrail.storage.database import atomic_replace
from learner.store.admin.episodes import arrays, describe
from learner.store.store import Store


def export(store: Store, folder: Path) -> int:
    """Write every episode of a store into a new folder; return how many there are.

    Args:
        store: To read; its learner may go on.
        folder: Must not exist, or be empty.

    Raises:
        StorageError: The folder has something in it, or the disk refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StorageError(f"{folder} is not empty; give the name of a new folder")
        lines = []
        for episode, named in arrays(store):
            about = describe(episode)
            name = f"{len(lines):06d}-{about['source']}-{episode.number:06d}.npz"
            temporary = folder / f".{name}.tmp"
            with temporary.open("wb") as file:
                np.savez_compressed(file, **named)  # pyright: ignore[reportArgumentType]
            os.replace(temporary, folder / name)
            lines.append(json.dumps({"file": name, **about}) + "\n")
        about = {"format": 1, "task": store.spec.task, "task_hash": store.spec.task_hash}
        about |= {"control_hz": store.spec.control_hz, "state": dict(store.spec.slices)}
        (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        temporary = folder / ".index.jsonl.tmp"
        temporary.write_text("".join(lines), encoding="utf-8")
        atomic_replace(
            temporary, folder / "index.jsonl"
        )  # the last: with it the export is complete
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"can't export to {folder}: {error}") from None
    return len(lines)
