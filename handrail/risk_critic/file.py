"""A packed critic on disk: one safetensors file with a JSON description in its header.

The robot host reads it without the learner's packages, so the few lines that this takes are here;
what is written is what the library reads, and the other way round.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from handrail.errors import CheckpointError, StorageError
from handrail.risk_critic.format import MAX_SIZE, check_critic

KIND = "handrail risk critic"
FILE_NAME = "critic.safetensors"  # below a run's risk folder
_MAX_HEADER_BYTES = 1 << 20  # [B], of the header
_LENGTH = struct.Struct("<Q")


def critic_path(run_folder: Path) -> Path:
    """Return where a run keeps its critic."""
    return run_folder / "risk" / FILE_NAME


def write_critic(path: Path, array: np.ndarray, about: dict[str, Any]) -> None:
    """Write a packed critic, whole or not at all.

    Args:
        path: File to write; its folder is made.
        array: Packed critic.
        about: Plain values: names of the inputs, config, figures.

    Raises:
        CheckpointError: The array is no packed critic; nothing is written.
        StorageError: The disk refused; an older file is unharmed.
    """
    check_critic(array)
    data = array.astype("<f4").tobytes()
    stated = json.dumps(about)
    header = {
        "__metadata__": {"kind": KIND, "about": stated, "about_sha256": _digest(stated)},
        "critic": {"dtype": "F32", "shape": [array.size], "data_offsets": [0, len(data)]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8 bytes
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as out:
            out.write(_LENGTH.pack(len(text)) + text + data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"can't write the risk critic to {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_critic(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a packed critic that was checked, and its description.

    Raises:
        CheckpointError: No such file, or it is damaged or no critic.
    """
    try:
        size = path.stat().st_size
        if size > _LENGTH.size + _MAX_HEADER_BYTES + 4 * MAX_SIZE:
            raise CheckpointError(f"{path} is no risk critic: it has {size} bytes")
        data = path.read_bytes()
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        header = json.loads(data[_LENGTH.size : start])
        entry, described = header["critic"], header["__metadata__"]
        if described["kind"] != KIND or entry["dtype"] != "F32":
            raise CheckpointError(f"{path} holds no risk critic")
        first, last = entry["data_offsets"]
        if [first, last] != [0, len(data) - start] or entry["shape"] != [last // 4]:
            raise CheckpointError(f"{path} is damaged: it has {len(data)} bytes")
        array = np.frombuffer(data, "<f4", last // 4, start).astype(np.float32)
        stated = described["about"]
        about = json.loads(stated)
        right = _digest(stated)  # a file from before has none
        known = set(described) <= {"kind", "about", "about_sha256"}
        if not (
            isinstance(about, dict) and known and described.get("about_sha256", right) == right
        ):
            raise CheckpointError(f"{path} is damaged: its description is not what was written")
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"no risk critic at {path}") from None
    except OSError as error:
        raise CheckpointError(f"can't read the risk critic {path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{path} is no risk critic, or damaged: {error!r}") from None
    try:
        check_critic(array)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return array, about
