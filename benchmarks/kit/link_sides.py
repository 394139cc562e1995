"""Both ends of the link as `link.py` runs them: rows to send, a learner in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.link_memory import MemorySpool, MemoryStore
from handrail.keys.files import HOST, new_pair, write_allowed, write_pair
from handrail.keys.host_keys import HostKeys
from handrail.link.image_codec import AdaptiveCompressor
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row, row_bytes
from handrail.link.wire import Hello
from handrail.spec import EnvSpec
from handrail.storage.spool import Spool
from handrail.transition import Source, Transition
from learner.store.store import Store

STATE, ACTION, SIDE = 20, 7, 128
BACKLOG = 64 << 20  # [B], in the spool before the actor waits
SPAWN = multiprocessing.get_context("spawn")


def spec_of(images: bool) -> EnvSpec:
    """Return the environment of the rows: two cameras, or none."""
    cameras = {"front": (SIDE, SIDE, 3), "wrist": (SIDE, SIDE, 3)} if images else {}
    return EnvSpec("benchmark", "0" * 16, 10.0, 100, {"all": (0, STATE)}, ACTION, cameras)


def rows_of(spec: EnvSpec, count: int = 64) -> list[Transition]:
    """Return rows of one episode that no compression makes shorter."""
    rng = np.random.default_rng(0)

    def row(t: int) -> Transition:
        taken, wanted, changed, base = rng.uniform(-1, 1, (4, ACTION)).astype(np.float32)
        state = rng.standard_normal(STATE, np.float32)
        frames = {name: rng.integers(0, 256, size, np.uint8) for name, size in spec.images.items()}
        return Transition(
            0, t, int(Source.ONLINE), state, taken, wanted, changed, base, images=frames
        )

    return [row(t) for t in range(count)]


def free_endpoint() -> str:
    """Return a loopback address whose port is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def child(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run `work(pipe, *arguments)` in a process; yield our end of the pipe once it is ready."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(60.0) or ours.recv() != "ready":
            raise RuntimeError(f"{work.__name__} did not come up within 60 s")
        yield ours
    finally:
        ours.close()
        process.join(30.0)
        if process.is_alive():
            process.kill()
            process.join()


def acquaint(folder: Path) -> None:
    """Give a learner and a robot keys in folders of these names, each on the other's list."""
    pairs = {name: new_pair() for name in ("learner", "robot")}
    for name, other in (("learner", "robot"), ("robot", "learner")):
        write_pair(folder / name, HOST, pairs[name])
        write_allowed(folder / name, {pairs[other].public: other})


def counts(store: Any) -> dict[str, int]:
    """Return rows per actor in a `MemoryStore`."""
    return dict(store.counts)


def learner(
    pipe: Connection,
    endpoint: str,
    spec: EnvSpec,
    folder: Path | None,
    keys: Path | None = None,
    tell: Callable[[Any], Any] = counts,
) -> None:
    """Take rows until the pipe is closed; on any message answer what `tell` says of the store."""
    host = None if keys is None else HostKeys(keys / "learner")
    with contextlib.ExitStack() as stack:
        store: Any = MemoryStore()
        if folder is not None:
            store = stack.enter_context(Store(folder / "store.db", spec))
        receiver = stack.enter_context(StreamReceiver(endpoint, store, spec, host))
        pipe.send("ready")
        while True:
            receiver.arrivals(0.02)
            if pipe.poll():
                try:
                    pipe.recv()
                except EOFError:
                    return
                pipe.send(tell(store))


def stream_rate(
    images: bool, seconds: float, folder: Path | None, keys: Path | None = None
) -> float:
    """Return transitions/s from the actor's `send` to the learner's acknowledgement.

    Args:
        images: Two cameras, or none.
        seconds: How long to append rows; the time until the last is acknowledged counts too [s].
        folder: Of spool and store; None for neither.
        keys: Folder in which learner and robot were acquainted; None for a link without keys.
    """
    spec, endpoint, code = spec_of(images), free_endpoint(), AdaptiveCompressor()
    rows = rows_of(spec)
    spool: Any = (
        MemorySpool() if folder is None else Spool(folder / "spool.db", row=row_bytes(spec))
    )
    hello = Hello.of("actor-0", spool.session, spec)
    host = None if keys is None else HostKeys(keys / "robot")
    try:
        with (
            child(learner, endpoint, spec, folder, keys),
            StreamSender(endpoint, spool, hello, keys=host) as sender,
        ):
            while not sender.status().connected:
                time.sleep(0.01)
            count, begin = 0, time.perf_counter()
            while time.perf_counter() - begin < seconds:
                sender.check()
                if spool.depth_bytes > BACKLOG:
                    time.sleep(1e-3)
                    continue
                spool.append(encode_row(rows[count % len(rows)], spec, code))
                count += 1
            sender.drain(300.0)
            return count / (time.perf_counter() - begin)
    finally:
        spool.close()
