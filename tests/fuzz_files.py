"""Decoders of files, and of the local socket between host and client."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import zmq
from fuzz_messages import reseal_critic
from fuzz_mutate import FLOATS, INTEGERS, Parts, damage
from fuzz_target import Target, hold, plain, readable, vary_json
from made_critic import made_critic, made_episodes
from zmq.utils import z85

from actor.config import Config, parse_config
from actor.tail import Tail as MetricsTail
from controllers.config import ControlConfig
from controllers.layout import PARAMS_SIZE
from controllers.robot import REQUEST_SIZE, SNAPSHOT_SIZE, Request
from handrail.config import load_toml, to_toml
from handrail.critic import check_critic, pack_critic
from handrail.critic_file import read_critic, write_critic
from handrail.errors import (
    CheckpointError,
    ConfigError,
    DeviceLost,
    Error,
    NotGranted,
    ProtocolMismatch,
    RunFolderError,
    StorageError,
)
from handrail.keys import files as keys
from handrail.runs import create_run, open_run, read_metrics
from handrail.spec import EnvSpec, dump_spec, load_spec, slices_of
from learner.checkpoint import Checkpoints
from learner.risk.data import load_episodes, save_episodes
from robot_env import doorbell
from robot_env.grant import Grant, Keyring, read_key, why_refused
from robot_env.recorder.record import COUNT, INDEX, WIDTH
from robot_env.recorder.recorder import describe
from robot_env.recorder.recording import Recording
from robot_env.recorder.ring import RECORDS_AT, Ring
from robot_env.recorder.tail import checksums, left_by_crash, read_ring
from robot_env.recorder.write import save
from robot_env.serve import picture_size
from robot_env.shared import Layout, Segment


class Files(Target):
    """Files that are written anew for each input."""

    paths: tuple[str, ...] = ()
    mode = 0o600

    def write(self, parts: Parts) -> None:
        """Put an input where the reader looks for it."""
        for name, data in zip(self.paths, parts, strict=True):
            path = self.folder / name
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.mode), "wb") as out:
                out.write(data)

    def read_back(self) -> Parts:
        """Return what was written, as an input."""
        return tuple((self.folder / name).read_bytes() for name in self.paths)


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


class SpecFile(Files):
    """Specs of an environment, as a learner reads them from a run folder."""

    name, share, refusals = "spec file", 120, (ConfigError,)
    paths = ("spec.json",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        spec = EnvSpec("t", "h", 10.0, 50, slices_of(a=3, b=2), 4, {"wrist": (8, 6, 3)}, 3)
        self.originals = [(dump_spec(spec).encode(),)]

    def make(self, rng: Random) -> Parts:
        return (vary_json(self.originals[0][0], rng),)

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, parts[0])

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return load_spec(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        self.write((dump_spec(value).encode(),))
        hold(dump_spec(load_spec(self.folder / self.paths[0])) == dump_spec(value), "not the same")
        hold(0 < value.control_hz < np.inf, f"control_hz {value.control_hz}")
        hold(0 < value.state <= 1 << 20 and 0 < value.action <= 1 << 20, f"state {value.state}")
        for start, stop in value.slices.values():
            hold(0 <= start <= stop, f"slice {start}, {stop}")
        for shape in value.images.values():
            hold(all(0 < n <= 1 << 16 for n in shape), f"image {shape}")


class ConfigFile(Files):
    """Configs of a run."""

    name, share, refusals = "config file", 40, (ConfigError,)
    paths = ("config.toml",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.originals = [(to_toml(parse_config({"task": {"name": "peg"}})).encode(),)]

    def make(self, rng: Random) -> Parts:
        (data,) = self.originals[0]
        if rng.random() < 0.6:  # another value of one key
            lines = data.decode().splitlines()
            at = rng.choice([i for i, line in enumerate(lines) if " = " in line])
            other = [repr(rng.choice(FLOATS)), str(rng.choice(INTEGERS)), '"a"', "[]", "true", "{}"]
            lines[at] = lines[at].split(" = ")[0] + " = " + rng.choice(other)
            return ("\n".join(lines).encode(),)
        return super().make(rng)

    def passed(self, parts: Parts) -> bool:
        self.write(parts)
        with contextlib.suppress(ConfigError, RecursionError):
            return bool(load_toml(self.folder / self.paths[0]))
        return False

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return parse_config(load_toml(self.folder / self.paths[0]))

    def verify(self, parts: Parts, value: Any) -> None:
        hold(isinstance(value, Config), "no config")
        self.write((to_toml(value).encode(),))
        hold(isinstance(load_toml(self.folder / self.paths[0]), dict), "it can't be read back")


class RunFile(Files):
    """A run folder's identity and its metrics."""

    name, share, refusals = "run folder", 120, (RunFolderError,)
    paths = ("run.json", "metrics.jsonl")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "run")
        run = create_run(self.folder, "peg", "0123", "")
        row = json.dumps({"kind": "learner", "role": "learner", "time": 1.5, "q": 0.5}).encode()
        run.metrics.write_bytes(3 * (row + b"\n"))
        self.originals = [self.read_back()]

    def make(self, rng: Random) -> Parts:
        identity, metrics = self.originals[0]
        if rng.random() < 0.6:
            return vary_json(identity, rng), metrics
        return identity, damage(metrics, rng, [metrics])

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, parts[0])

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        run = open_run(self.folder)
        return run, list(read_metrics(run.metrics)), MetricsTail(run.metrics).rows()

    def verify(self, parts: Parts, value: Any) -> None:
        run, rows, followed = value
        hold(np.isfinite(run.origin), f"origin {run.origin}")
        hold(bool(re.fullmatch("[0-9a-f]{12}", run.id)), f"id {run.id!r}")  # it names sockets
        hold(all(isinstance(row, dict) for row in [*rows, *followed]), "a row is no table")


class KeyPair(Files):
    """A host's key file."""

    name, share, refusals = "key file", 100, (ConfigError,)
    paths = ("host.key",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "keys")
        for secret in (bytes(range(32)), bytes(range(64, 96))):  # the same whenever it runs again
            public = z85.decode(zmq.curve_public(z85.encode(secret))).hex()
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "host.key").unlink()
            keys.write_pair(self.folder, keys.HOST, keys.Pair(public, secret.hex()))
            self.originals.append(self.read_back())

    def passed(self, parts: Parts) -> bool:
        return parts[0].split()[:1] == [b"public"] and b"secret" in parts[0]

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return keys.read_pair(self.folder)

    def verify(self, parts: Parts, value: Any) -> None:
        words = [original[0].split()[1].decode() for original in self.originals]
        # five bits of a secret key mean nothing: then the public key is the same
        secret = z85.encode(bytes.fromhex(value.secret))
        hold(z85.decode(zmq.curve_public(secret)).hex() == value.public, "no pair")
        hold(value.public in words, "another pair")


class KeyList(Files):
    """The list of hosts that may come in."""

    name, share, refusals = "key list", 100, (ConfigError,)
    paths = ("allowed",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "keys")
        names = {"ab" * 32: "robot", "cd" * 32: "other-1.lab", "0f" * 32: "robot"}
        keys.write_allowed(self.folder, names)
        self.originals = [self.read_back(), (b"# none\n\n" + self.read_back()[0],)]

    def passed(self, parts: Parts) -> bool:
        return parts[0].isascii()

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return keys.read_allowed(self.folder)

    def verify(self, parts: Parts, value: Any) -> None:
        text = parts[0].decode("ascii").lower()
        for key, name in value.items():
            hold(bool(re.fullmatch("[0-9a-f]{64}", key)), f"key {key!r}")
            hold(bool(re.fullmatch(r"[\w.-]{1,64}", name)), f"name {name!r}")
            hold(key in text and name.lower() in text, "it isn't in the file")


class Doorbell(Target):
    """Messages on the host's local socket: requests, claims, answers, with and without a file."""

    name, share = "doorbell", 300
    refusals = (ProtocolMismatch, NotGranted, DeviceLost)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keyring = Keyring(folder / "host.key", human=False)
        key = read_key(folder / "host.key")
        payloads = {
            doorbell.RESET: {"seed": 3}, doorbell.STEP: {}, doorbell.DONE: {"nominal": 3},
            doorbell.RENDER: {"camera": "front", "width": 9, "height": 9},
            doorbell.CLAIM: {"key": key, "ask": 4},
            doorbell.ERROR: {"error": "Error", "message": "x"},
        }  # fmt: skip
        self.originals = [(k + json.dumps(p).encode(), b"\0") for k, p in payloads.items()]
        self.ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ends[1].settimeout(5.0)
        self.descriptors = len(os.listdir("/proc/self/fd"))

    def make(self, rng: Random) -> Parts:
        data, files = rng.choice(self.originals)
        found = data[:1] + vary_json(data[1:], rng) if rng.random() < 0.8 else super().make(rng)[0]
        files = rng.choice((b"\0", b"\0", b"\1", b"\2"))  # that come with it; one at most may
        return (found or b"s")[:70_000], files

    def passed(self, parts: Parts) -> bool:
        return readable(json.loads, parts[0][1:])

    def take(self, parts: Parts) -> Any:
        data, files = parts
        socket.send_fds(self.ends[0], [data], [self.ends[0].fileno()] * files[0])
        kind, payload, fd = doorbell.receive(self.ends[1])
        if fd is not None:
            os.close(fd)
        if kind == doorbell.RENDER:
            return picture_size(payload)
        if kind == doorbell.CLAIM:
            return self.keyring.claim(payload)
        if kind == doorbell.ERROR:
            with contextlib.suppress(Error):
                doorbell.raise_error(payload)
        return payload

    def verify(self, parts: Parts, value: Any) -> None:
        if isinstance(value, Grant):
            hold(parts[0][1:].isascii() and Grant.HUMAN not in value, f"granted {value!r}")
            table = json.loads(parts[0][1:])
            hold(table["key"] == read_key(self.folder / "host.key"), "granted without the key")
        elif isinstance(value, tuple):
            hold(1 <= min(value[1:]) <= max(value[1:]) <= 4096, f"size {value}")
        else:
            hold(isinstance(value, dict), "no payload")

    def settle(self) -> dict[str, int]:
        hold(len(os.listdir("/proc/self/fd")) <= self.descriptors + 1, "descriptors stay open")
        return {}

    def close(self) -> None:
        for end in self.ends:
            end.close()


class SharedRequest(Target):
    """A client's request in shared memory, half of them with a right checksum."""

    name, share, refusals = "shared request", 150, (ProtocolMismatch, NotGranted)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.segment, fd = Segment.create(Layout(REQUEST_SIZE, SNAPSHOT_SIZE, 3))
        os.close(fd)
        block = self.segment.request
        values = np.array([1, 0, 0.1, 0.2, 0.3, 0, 0, 0, 1, 0.02, 1, 1, 1, 1, 0.0])
        block.write(values)
        self.originals = [(block._head.tobytes(), values.tobytes())]

    def passed(self, parts: Parts) -> bool:
        head, values = parts
        return len(head) == 16 and len(values) == 8 * REQUEST_SIZE and not head[0] & 1

    def take(self, parts: Parts) -> Any:
        head, values = (part.ljust(120, b"\0") for part in parts)
        block = self.segment.request
        block._head[:] = np.frombuffer(head, np.uint64, 2)
        block._values[:] = np.frombuffer(values, np.float64, REQUEST_SIZE)
        if len(parts[0]) % 2:
            block.write(np.frombuffer(values, np.float64, REQUEST_SIZE))
        found = block.read()
        if found is None or not np.isfinite(found[1]).all():
            raise ProtocolMismatch("no whole request")
        request = Request.unpack(found[1])
        why = why_refused(request.source, Grant.POLICY)
        if why:
            raise NotGranted(why)
        return request

    def verify(self, parts: Parts, value: Any) -> None:
        hold(value.source == 0, f"source {value.source} was granted")


def made_ring(folder: Path) -> Path:
    """Return a ring with whole records of the recorder's own layout."""
    about = describe(np.zeros(PARAMS_SIZE), ControlConfig(), realtime=False) | {"task": "peg"}
    ring = Ring(folder / "made.ring", 0.012, 0.001, about)
    words = ring.tape.words
    words[:9] = np.arange(9 * WIDTH, dtype=np.int64).reshape(9, WIDTH)
    words[:9, INDEX] = np.arange(9)
    words[:9, 0] = checksums(words[:9])
    ring.tape.head[COUNT] = 9
    ring.note("here it begins")
    ring.note("here it ends")
    ring.close()
    return folder / "made.ring"


class RingFile(Files):
    """The flight recorder's ring, as it is left by a host."""

    name, share, refusals = "recorder ring", 80, (StorageError,)
    paths = ("recorder.ring",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        data = made_ring(folder).read_bytes()
        self.originals = [(data,)]
        self.words = {row.tobytes() for row in read_ring(folder / "made.ring").words}

    def make(self, rng: Random) -> Parts:
        (data,) = self.originals[0]
        head, rest = data[:512], data[512:]
        chance = rng.random()
        if chance < 0.5:
            return (damage(head, rng, [head], range(0, 160, 8)).ljust(512, b"\0")[:512] + rest,)
        if chance < 0.7:
            text = data[4096 : data.index(b"\0", 4096)]
            other = vary_json(text, rng)[: 4096 * 15]
            size = damage(len(other).to_bytes(8, "little"), rng, []) if chance < 0.55 else b""
            data = data.replace(struct.pack("<Q", len(text)), size or struct.pack("<Q", len(other)))
            return (data[:4096] + other.ljust(4096 * 15, b"\0") + data[4096 * 16 :],)
        if chance < 0.8:
            rows = rng.choice((0, 1, 11, 13))
            return (data[: RECORDS_AT + rows * WIDTH * 8],)
        return (damage(data, rng, [data], range(RECORDS_AT, len(data), 8)),)

    def passed(self, parts: Parts) -> bool:
        return parts[0][:256].find(b"Handrail") >= 0 and len(parts[0]) >= RECORDS_AT

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        left_by_crash(self.folder / self.paths[0])
        return read_ring(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(isinstance(value.about, dict), "no description")
        for row in value.words:
            hold(row.tobytes() in self.words or bool(checksums(row[None])[0] == row[0]), "a record")
        hold(bool((np.diff(value.words[:, INDEX]) > 0).all()), "indices don't grow")


class RecordingFile(Files):
    """Recordings of the flight recorder, MCAP."""

    name, share, refusals = "recording", 50, (StorageError,)
    paths = ("recording.mcap",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = save(read_ring(made_ring(folder)), folder / "made", "a fault", 3)
        self.originals = [(path.read_bytes(),)]

    def passed(self, parts: Parts) -> bool:
        return parts[0].startswith(b"\x89MCAP0\r\n")

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        return Recording(self.folder / self.paths[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(isinstance(value.about, dict), "no description")
        for table in value.groups.values():
            hold(table.dtype == np.int64 and table.ndim == 2, f"{table.dtype} {table.shape}")
        hold(sum(t.nbytes for t in value.groups.values()) < 1 << 24, "more than was written")


TARGETS = (
    CriticFile, CheckpointFiles, SealedCheckpoint, Episodes, SpecFile, ConfigFile, RunFile, KeyPair,
    KeyList, Doorbell, SharedRequest, RingFile, RecordingFile,
)  # fmt: skip
