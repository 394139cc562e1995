"""Packets of weights as fuzzing's target: what an actor is asked to act with."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import jax
import msgspec
import numpy as np
from fuzz_messages import SPEC
from fuzz_mutate import Parts
from fuzz_target import Target, hold, readable, vary_json

from handrail.errors import CheckpointError, ProtocolMismatch
from handrail.link.array_codec import pack, unpack
from learner.config import BaseConfig
from learner.policy.policy import Policy
from learner.policy.weights import pack as pack_weights
from learner.policy.weights import template
from learner.presets import preset

BASE = BaseConfig(hidden=(8,))


class Packet(Target):
    """Meta data and arrays of a policy, changed, dropped or exchanged; the checksum is right."""

    name, share, batch = "packet", 60, 50
    refusals = (CheckpointError, ProtocolMismatch)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        learner = preset("residual_hil", hidden=(8,))
        like = template(learner, BASE, SPEC, True)
        draw = np.random.default_rng(0)
        weights = jax.tree.map(
            lambda leaf: draw.uniform(0.1, 1.0, leaf.shape).astype(leaf.dtype), like
        )
        self.arrays = pack_weights(weights)
        self.meta = {
            "version": 3, "phase": "online", "env_steps": 400, "updates": 800, "base_version": 1,
            "has_base": True, "normaliser_hash": weights.normaliser.hash, "ramp": [0.5, 300],
            "trained_steps": 390,
        }  # fmt: skip
        self.policy = Policy(SPEC, learner, BASE)
        self.policy.load(self.meta, self.arrays)
        self.state = np.zeros(SPEC.state, np.float32)
        self.originals = [(json.dumps(self.meta).encode(), b"")]

    def make(self, rng: Random) -> Parts:
        """Return the meta data's JSON, and which array is changed in which way."""
        meta = json.dumps(self.meta).encode()
        if rng.random() < 0.7:
            return vary_json(meta, rng), b""
        change = [rng.choice(sorted(self.arrays)), rng.choice(("drop", "shape", "kind", "value"))]
        return meta, json.dumps(change).encode()

    def passed(self, parts: Parts) -> bool:
        return readable(msgspec.json.decode, parts[0])

    def take(self, parts: Parts) -> Any:
        meta = msgspec.json.decode(parts[0]) if self.passed(parts) else None
        if not isinstance(meta, dict):
            raise ProtocolMismatch("no table: it would not be a bundle")
        arrays = dict(self.arrays)
        if parts[1]:
            name, change = json.loads(parts[1])
            array = arrays.pop(name)
            if change != "drop":
                arrays[name] = {
                    "shape": array[..., None],
                    "kind": array.astype(np.float64),
                    "value": array + np.float32(1.0),
                }[change]
        before = self.policy.weights_meta
        try:
            self.policy.load(*unpack(pack(meta, arrays)))
        except self.refusals:
            hold(self.policy.weights_meta is before, "refused, and taken in part")
            raise
        return self.policy.act(self.state).action

    def verify(self, parts: Parts, value: Any) -> None:
        hold(value.shape == (SPEC.action,) and bool(np.isfinite(value).all()), f"acts {value}")
        hold(float(np.abs(value).max()) <= 1.0, f"acts {value}")


TARGETS = (Packet,)
