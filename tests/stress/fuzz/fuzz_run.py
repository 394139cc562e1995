"""Decoders of a run folder's texts and of a host's keys."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import zmq
from fuzz_mutate import FLOATS, INTEGERS, Parts, damage
from fuzz_target import Files, hold, readable, vary_json
from zmq.utils import z85

from actor.config import Config, parse_config
from actor.report.metrics_tail import MetricsTail as MetricsTail
from handrail.config import load_toml, to_toml
from handrail.errors import (
    ConfigError,
    RunFolderError,
)
from handrail.keys import files as keys
from handrail.run_folder import create_run, open_run, read_metrics
from handrail.spec import EnvSpec, dump_spec, load_spec, slices_of


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
            keys.write_pair(self.folder, keys.HOST, keys.KeyPair(public, secret.hex()))
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


TARGETS = (
    SpecFile,
    ConfigFile,
    RunFile,
    KeyPair,
    KeyList,
)
