"""What stands between actor and learner in a run of `chaos.py`, as processes of their own.

TCP delivers bytes in order or not at all, so harm comes on two levels. `bytes` forwards the TCP
stream itself, between the real sender and the real receiver: it cuts in the middle of a frame, is
slow, stalls, drips, flips a bit, and leaves connections half open. `messages` speaks ZeroMQ to both
and forwards whole messages: it drops, doubles, delays (so that later ones overtake), truncates and
flips bits in them. Every decision comes from a seed. A line for each thing done goes to a file.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import zmq

from handrail.process import attach_to_supervisor

FATE_S = 0.8  # [s], a connection lives so long in the mean
FATES = {"deaf": 0.05, "orphan": 0.05, "cut": 0.9}  # [-], what becomes of it then
HALF_OPEN_S = (1.0, 30.0)  # [s], one end goes on alone
SLOW = {"delay": 0.03, "stall": 0.005, "drip": 0.02, "bitflip": 0.003}  # [-], of chunks
HARM = {"drop": 0.02, "duplicate": 0.04, "reorder": 0.04, "truncate": 0.01, "flip": 0.015}


class Tally:
    """Counts what was done, in a file that outlives a kill."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, what: str) -> None:
        """Count one."""
        os.write(self._fd, f"{what}\n".encode())


def pick(rng: random.Random, shares: dict[str, float]) -> str:
    """Return one of the names, each with its probability, or "" with what is left of 1."""
    value = rng.random()
    for name, share in shares.items():
        value -= share
        if value < 0:
            return name
    return ""


def flip(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with one bit of them changed; nothing has no bit."""
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


class Copy(NamedTuple):
    """A message to send on, after a while [s]."""

    after: float
    frames: list[bytes]


def harm(rng: random.Random, frames: list[bytes]) -> tuple[str, list[Copy]]:
    """Return what was done to a message, "" if nothing, and what is sent on for it."""
    what = pick(rng, HARM)
    place = rng.randrange(len(frames))
    if what == "drop":
        return what, []
    if what == "duplicate":
        return what, [Copy(0.0, frames), Copy(rng.choice([0.0, rng.uniform(0, 1.5)]), frames)]
    if what == "reorder":
        return what, [Copy(rng.expovariate(1 / 0.2), frames)]
    if what == "truncate":
        kept = rng.randrange(len(frames[place]) + 1)
        shorter = [*frames[:place], frames[place][:kept]]
        return what, [Copy(0.0, shorter + frames[place + 1 :] * rng.randrange(2))]
    if what == "flip":
        return what, [Copy(0.0, [*frames[:place], flip(rng, frames[place]), *frames[place + 1 :]])]
    return what, [Copy(0.0, frames)]


class MessageProxy:
    """A ROUTER to the actors and, for each of their connections, a DEALER to the learner."""

    def __init__(self, listen: str, upstream: str, rng: random.Random, tally: Tally) -> None:
        self._upstream, self._rng, self._tally = upstream, rng, tally
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.router_mandatory = True
        self._front.bind(listen)
        self._poller = zmq.Poller()
        self._poller.register(self._front, zmq.POLLIN)
        self._backs: dict[bytes, zmq.Socket] = {}
        self._late: list[tuple[float, int, bytes, bool, list[bytes]]] = []
        self._count = 0

    def run(self) -> None:
        """Forward for ever."""
        while True:
            wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else 1.0
            ready = {sock for sock, _ in self._poller.poll(int(1e3 * wait) + 1)}
            if self._front in ready:
                identity, *frames = self._front.recv_multipart()
                self._pass(identity, True, frames)
            for identity, back in list(self._backs.items()):
                if back in ready:
                    self._pass(identity, False, back.recv_multipart())
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, identity, up, frames = heapq.heappop(self._late)
                self._send(identity, up, frames)

    def _pass(self, identity: bytes, up: bool, frames: list[bytes]) -> None:
        what, copies = harm(self._rng, frames)
        if what:
            self._tally.add(f"{what} {'up' if up else 'down'}")
        for copy in copies:
            if copy.after:
                self._count += 1
                due = time.monotonic() + copy.after
                heapq.heappush(self._late, (due, self._count, identity, up, copy.frames))
            else:
                self._send(identity, up, copy.frames)

    def _send(self, identity: bytes, up: bool, frames: list[bytes]) -> None:
        try:
            if up:
                self._back(identity).send_multipart(frames, zmq.NOBLOCK)
            else:
                self._front.send_multipart([identity, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH and identity in self._backs:
                back = self._backs.pop(identity)  # the actor is gone: so are we, to the learner
                self._poller.unregister(back)
                back.close(linger=0)
            elif error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise

    def _back(self, identity: bytes) -> zmq.Socket:
        if identity not in self._backs:
            back = self._context.socket(zmq.DEALER)
            back.reconnect_ivl, back.reconnect_ivl_max = 50, 500
            back.connect(self._upstream)
            self._poller.register(back, zmq.POLLIN)
            self._backs[identity] = back
        return self._backs[identity]


class Pipe:
    """One TCP connection through the byte proxy and its fate."""

    def __init__(self, rng: random.Random, tally: Tally) -> None:
        self._rng, self._tally = rng, tally
        self._cut = False  # the next chunk is the last, and not whole

    async def run(self, down: asyncio.StreamWriter, up: asyncio.StreamWriter, *pumps) -> None:
        """Forward until the fate's time has come or an end is closed, then do as fated."""
        tasks = [asyncio.create_task(pump) for pump in pumps]
        fate = pick(self._rng, FATES) or "cut"
        done, _ = await asyncio.wait(
            tasks,
            timeout=self._rng.expovariate(1 / FATE_S),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            self._tally.add(fate)
            if fate == "cut":
                self._cut = True
                await asyncio.wait(tasks, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            else:  # one end stays open, and nobody listens there any more
                (up if fate == "deaf" else down).transport.abort()
                await asyncio.sleep(self._rng.uniform(*HALF_OPEN_S))
        for task in tasks:
            task.cancel()
        down.transport.abort()
        up.transport.abort()

    async def pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Forward one direction; return when either end is closed."""
        rng = self._rng
        try:
            while data := await source.read(1 << 16):
                if target.transport.is_closing():
                    continue  # half open: swallow it
                if self._cut:
                    kept = rng.randrange(len(data))
                    self._tally.add("torn")
                    target.write(data[:kept])
                    await target.drain()
                    return
                what = pick(rng, SLOW)
                if what:
                    self._tally.add(what)
                if what in ("delay", "stall"):
                    await asyncio.sleep(rng.uniform(0.01, 0.15 if what == "delay" else 3.0))
                elif what == "drip":
                    data = await self._drip(data, target)
                elif what == "bitflip":
                    data = flip(rng, data)
                target.write(data)
                await target.drain()
        except ConnectionError:
            return

    async def _drip(self, data: bytes, target: asyncio.StreamWriter) -> bytes:
        """Send the first bytes in crumbs; return what is left."""
        for _ in range(self._rng.randint(5, 50)):
            crumb = self._rng.randint(1, 7)
            target.write(data[:crumb])
            await target.drain()
            await asyncio.sleep(0.002)
            data = data[crumb:]
        return data


async def forward_bytes(listen: str, upstream: str, rng: random.Random, tally: Tally) -> None:
    """Accept connections for ever, each with a connection of its own to the learner."""

    async def accept(reader: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        try:
            ahead, up = await asyncio.open_connection(*address(upstream))
        except OSError:
            down.transport.abort()
            return
        tally.add("connection")
        pipe = Pipe(rng, tally)
        await pipe.run(down, up, pipe.pump(reader, up), pipe.pump(ahead, down))

    server = await asyncio.start_server(accept, *address(listen))
    await server.serve_forever()


def address(endpoint: str) -> tuple[str, int]:
    """Return host and port of tcp://host:port."""
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or 0


if __name__ == "__main__":
    attach_to_supervisor(signal.SIGKILL)
    kind, folder, listen, upstream, seed = sys.argv[1:]
    rng, tally = random.Random(seed), Tally(Path(folder) / f"{kind}.tally")
    if kind == "bytes":
        asyncio.run(forward_bytes(listen, upstream, rng, tally))
    else:
        MessageProxy(listen, upstream, rng, tally).run()
