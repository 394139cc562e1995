"""What a robot host reads from its clients: the local socket and the shared request."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_mutate import Parts
from fuzz_target import Target, hold, readable, vary_json

from controllers.robot import REQUEST_SIZE, SNAPSHOT_SIZE, Request
from handrail.errors import (
    DeviceLost,
    Error,
    NotGranted,
    ProtocolMismatch,
)
from robot_env.host import messages
from robot_env.host.authorization import HostKey, Permission, read_key, why_refused
from robot_env.host.lockstep_server import picture_size
from robot_env.host.shared_memory import Segment, SegmentLayout


class Doorbell(Target):
    """Messages on the host's local socket: requests, claims, answers, with and without a file."""

    name, share = "doorbell", 300
    refusals = (ProtocolMismatch, NotGranted, DeviceLost)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.host_key = HostKey(folder / "host.key", human=False)
        key = read_key(folder / "host.key")
        payloads = {
            messages.RESET: {"seed": 3}, messages.STEP: {}, messages.DONE: {"nominal": 3},
            messages.RENDER: {"camera": "front", "width": 9, "height": 9},
            messages.CLAIM: {"key": key, "ask": 4},
            messages.ERROR: {"error": "Error", "message": "x"},
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
        kind, payload, fd = messages.receive(self.ends[1])
        if fd is not None:
            os.close(fd)
        if kind == messages.RENDER:
            return picture_size(payload)
        if kind == messages.CLAIM:
            return self.host_key.claim(payload)
        if kind == messages.ERROR:
            with contextlib.suppress(Error):
                messages.raise_error(payload)
        return payload

    def verify(self, parts: Parts, value: Any) -> None:
        if isinstance(value, Permission):
            hold(parts[0][1:].isascii() and Permission.HUMAN not in value, f"granted {value!r}")
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
        self.segment, fd = Segment.create(SegmentLayout(REQUEST_SIZE, SNAPSHOT_SIZE, 3))
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
        why = why_refused(request.authority, Permission.POLICY)
        if why:
            raise NotGranted(why)
        return request

    def verify(self, parts: Parts, value: Any) -> None:
        hold(value.authority == 0, f"authority {value.authority} was granted")


TARGETS = (
    Doorbell,
    SharedRequest,
)
