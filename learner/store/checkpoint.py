"""Checkpoints of the learner: written whole or not at all, checked when read.

A checkpoint is two files: `<name>.safetensors` with the arrays, and `<name>.json` with everything
else and the checksums of both. The second is written last; without it the first doesn't count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from handrail.errors import CheckpointError, StorageError

FORMAT = 2  # of the two files; 1 had no checksum of what the description says


class Checkpoints:
    """A folder of checkpoints, of which the newest few are kept."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def names(self) -> list[str]:
        """Return the names of complete checkpoints, oldest first."""
        return sorted(p.stem for p in self.folder.glob("step-*.json"))

    def save(self, state: dict[str, Any]) -> Path:
        """Write a checkpoint and return the path of its description.

        Args:
            state: "meta" (plain values, with "updates" and "env_steps") and "arrays".

        Raises:
            StorageError: The disk refused; older checkpoints are unharmed.
        """
        meta, arrays = state["meta"], state["arrays"]
        name = f"step-{meta['env_steps']:09d}-{meta['updates']:09d}"
        data = safetensors.numpy.save({k: np.asarray(a, order="C") for k, a in arrays.items()})
        record = {
            "format": FORMAT,
            "sha256": hashlib.sha256(data).hexdigest(),
            "meta_sha256": _digest(json.loads(json.dumps(meta))),
            "meta": meta,
        }
        path = self.folder / f"{name}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path.with_suffix(".safetensors"), data)
            _write(path, json.dumps(record, indent=1).encode())
            self._prune()
        except OSError as error:
            raise StorageError(f"can't write checkpoint {path}: {error}") from None
        return path

    def load(self, name: str | None = None) -> dict[str, Any]:
        """Return a checkpoint's "meta" and "arrays"; the newest if no name is given.

        Raises:
            CheckpointError: There is none, or it is damaged or of a newer format.
        """
        if name is None:
            names = self.names()
            if not names:
                raise CheckpointError(f"no checkpoint in {self.folder}")
            name = names[-1]
        path = self.folder / f"{name}.json"
        advice = "delete both its files to fall back on an older one"
        try:
            record = json.loads(path.read_bytes())
            written, checksum, meta = record["format"], record["sha256"], record["meta"]
        except FileNotFoundError:
            raise CheckpointError(f"no checkpoint {name!r} in {self.folder}") from None
        except OSError as error:
            raise CheckpointError(f"can't read checkpoint {path}: {error}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"checkpoint {path} is damaged ({error!r}); {advice}") from None
        if not isinstance(written, int) or written > FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {written!r}, this version of Handrail reads up to "
                f"{FORMAT}; upgrade Handrail"
            )
        right = record.get("meta_sha256") if written > 1 else _digest(meta)
        if not isinstance(meta, dict) or right != _digest(meta):
            raise CheckpointError(
                f"checkpoint {path} is damaged: its description differs from its checksum; {advice}"
            )
        try:
            data = path.with_suffix(".safetensors").read_bytes()
        except OSError as error:
            raise CheckpointError(f"can't read the arrays of {path}: {error}; {advice}") from None
        if hashlib.sha256(data).hexdigest() != checksum:
            raise CheckpointError(f"checkpoint {path} is damaged: checksum differs; {advice}")
        try:
            return {"meta": meta, "arrays": safetensors.numpy.load(data)}
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"checkpoint {path} is damaged ({error}); {advice}") from None

    def newest_good(self) -> str | None:
        """Return the newest checkpoint whose weights the publish guard wasn't refusing."""
        return next((name for name in self.names()[::-1] if not self._refusing(name)), None)

    def _refusing(self, name: str) -> bool:
        try:
            record = json.loads((self.folder / f"{name}.json").read_bytes())
            return bool(record["meta"].get("refusing", False))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return True  # nobody knows

    def _prune(self) -> None:
        old = self.names()[: -self.keep]
        good = self.newest_good() if old else None
        for name in old:
            if name == good:  # a learner that goes astray doesn't push it out
                continue
            for suffix in (".json", ".safetensors"):
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / f"{name}{suffix}").unlink()


def _digest(meta: dict[str, Any]) -> str:
    """Return a checksum of plain values as JSON reads them."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
