"""Files of arrays, which are safetensors: risk critics, checkpoints, risk episodes."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_messages import reseal_critic
from fuzz_mutate import Parts, damage
from fuzz_target import Files, hold, plain, readable, vary_json
from made_critic import made_critic, made_episodes

from handrail.errors import (
    CheckpointError,
    StorageError,
)
from handrail.risk_critic.file import read_critic, write_critic
from handrail.risk_critic.format import check_critic, pack_critic
from learner.risk.episodes import load_episodes, save_episodes
from learner.store.checkpoint import Checkpoints


def header_of(data: bytes) -> bytes:
    """Return the JSON header of a safetensors file, as far as there is one."""
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length] if len(data) >= 8 and length <= len(data) - 8 else b""


def vary_safetensors(data: bytes, rng: Random) -> bytes:
    """Return a safetensors file with another header, or other bytes."""
    header = header_of(data)
    if not header or rng.random() < 0.5:
        return damage(data, rng, [data], (0, 4))
    other = vary_json(header, rng)
    other += b" " * (-len(other) % 8)
    return struct.pack("<Q", len(other)) + other + data[8 + len(header) :]


class CriticFile(Files):
    """Files of a risk critic; half of them with a right checksum of the critic inside."""

    name, share, refusals = "critic file", 150, (CheckpointError,)
    paths = ("critic.safetensors",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / self.paths[0]
        self.abouts = [{"inputs": ["push", "rise"], "auc": 0.93}, {}]
        self.arrays = [
            pack_critic(made_critic(2, (3,), 2)),
            pack_critic(made_critic(4, (3,), 1, 2)),
        ]
        for array, about in zip(self.arrays, self.abouts, strict=True):
            write_critic(path, array, about)
            self.originals.append(self.read_back())

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        data = vary_safetensors(data, rng)
        start = 8 + len(header_of(data))
        if rng.random() < 0.5 and start > 8:
            body = (
                damage(data[start:], rng, [data], range(0, 64, 4)) if rng.random() < 0.5 else None
            )
            data = data[:start] + reseal_critic(data[start:] if body is None else body)
        return (data,)

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, header_of(parts[0]))

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return read_critic(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        array, about = value
        check_critic(array)
        hold(plain(about) in self.abouts, f"another description: {about}")
        if array.tobytes() not in [right.tobytes() for right in self.arrays]:
            hold(reseal_critic(array.tobytes()) == array.tobytes(), "another critic")


class CheckpointFiles(Files):
    """The two files of a checkpoint, as they came."""

    name, share, refusals = "checkpoint", 120, (CheckpointError,)
    paths = ("step-000000010-000000020.json", "step-000000010-000000020.safetensors")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.meta = {"updates": 20, "env_steps": 10, "phase": "online", "rng": [1, 2], "gain": 0.5}
        self.arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.arange(3)}
        Checkpoints(folder).save({"meta": self.meta, "arrays": self.arrays})
        self.originals = [self.read_back()]

    def make(self, rng: Random) -> Parts:
        record, data = self.originals[0]
        if rng.random() < 0.5:
            return vary_json(record, rng), data
        return record, vary_safetensors(data, rng)

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, parts[0]) and readable(json.loads, header_of(parts[1]))

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return Checkpoints(self.folder).load()

    def verify(self, parts: Parts, value: Any) -> None:
        hold(plain(value["meta"]) == self.meta, f"another description: {value['meta']}")
        same = {name: array.tobytes() for name, array in value["arrays"].items()}
        hold(same == {n: a.tobytes() for n, a in self.arrays.items()}, "other arrays")


class SealedCheckpoint(CheckpointFiles):
    """The same with right checksums."""

    name, share = "checkpoint sealed", 120

    def make(self, rng: Random) -> Parts:
        record, data = self.originals[0]
        table = json.loads(record)
        data = vary_safetensors(data, rng)
        table["sha256"] = sha256(data).hexdigest()
        return json.dumps(table).encode(), data

    def verify(self, parts: Parts, value: Any) -> None:
        hold(plain(value["meta"]) == self.meta, "another description")
        for array in value["arrays"].values():
            hold(array.dtype.kind in "biuf", f"an array of {array.dtype}")
        hold(sum(a.nbytes for a in value["arrays"].values()) <= len(parts[1]), "more than came")


class Episodes(Files):
    """Files of episodes that the risk critic learns from."""

    name, share, refusals = "risk episodes", 120, (StorageError,)
    paths = ("episodes.safetensors",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        save_episodes(folder / self.paths[0], made_episodes(2, ticks=12), {"from": "fuzz"})
        self.originals = [self.read_back()]

    def make(self, rng: Random) -> Parts:
        (data,) = self.originals[0]
        header = header_of(data)
        table = json.loads(header)
        if rng.random() < 0.5:  # what is said of the episodes, inside the header
            about = vary_json(table["__metadata__"]["about"].encode(), rng)
            table["__metadata__"]["about"] = about.decode("utf-8", "replace")
            text = json.dumps(table).encode()
            return (struct.pack("<Q", len(text)) + text + data[8 + len(header) :],)
        return (vary_safetensors(data, rng),)

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, header_of(parts[0]))

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return load_episodes(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        episodes, about = value
        hold(isinstance(about, dict) and len(episodes) > 0, "no description")
        for features, violation, dt in episodes:
            hold(features.dtype == np.float32 and violation.dtype == bool, f"{features.dtype}")
            hold(0.0 < dt < np.inf and bool(np.isfinite(features).all()), "not finite")


TARGETS = (
    CriticFile,
    CheckpointFiles,
    SealedCheckpoint,
    Episodes,
)
