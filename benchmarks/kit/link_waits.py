"""How long the link makes others wait: publishing, asking, sending to a learner that is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.kit.link_memory import MemorySpool
from benchmarks.kit.link_sides import child, free_endpoint, learner, rows_of, spec_of
from handrail.link.rpc import RpcClient, RpcServer
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row, row_bytes
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from handrail.link.wire import Hello
from handrail.storage.spool import Spool

ARRAYS = 20  # [-], that published weights consist of
RATE = 200.0  # [Hz], of the loop that sends: 10 minutes at 10 Hz in 30 s


def subscriber(pipe: Connection, endpoint: str) -> None:
    """Say when each value arrived, until the pipe is closed [s]."""
    with WeightsSubscriber(endpoint, ("policy",)) as weights:
        pipe.send("ready")
        while True:
            found = weights.latest("policy")
            if found is not None:
                pipe.send((found[0]["number"], time.monotonic()))
            time.sleep(2e-4)
            if pipe.poll():
                return


def publish_ms(size: int, count: int, period: float = 0.25) -> tuple[float, float]:
    """Return how long `publish` of so many bytes blocks, and until it has arrived: medians [ms].

    The arrays are given, as the learner gives its own: they are copies that the gate has judged.
    """
    rng, endpoint = np.random.default_rng(0), free_endpoint()
    arrays = {f"w{n}": rng.standard_normal(size // 4 // ARRAYS, np.float32) for n in range(ARRAYS)}
    blocked, arrived = [], []
    with WeightsPublisher(endpoint) as broadcast, child(subscriber, endpoint) as pipe:
        time.sleep(1.0)
        for number in range(count):
            begin = time.monotonic()
            broadcast.publish("policy", {"number": number}, arrays, take_ownership=True)
            blocked.append(time.monotonic() - begin)
            if not pipe.poll(10.0):
                raise RuntimeError("a published value did not arrive within 10 s")
            got, when = pipe.recv()
            assert got == number
            arrived.append(when - begin)
            time.sleep(period)
    return 1e3 * float(np.median(blocked)), 1e3 * float(np.median(arrived))


def answer(pipe: Connection, endpoint: str) -> None:
    """Answer requests until the pipe is closed."""
    with RpcServer(endpoint, {"status": lambda payload: payload}) as server:
        pipe.send("ready")
        while not pipe.poll():
            server.poll(0.02)


def round_trip_us(count: int) -> float:
    """Return the median time of a request and its answer [us]."""
    endpoint, took = free_endpoint(), []
    with child(answer, endpoint), RpcClient(endpoint) as client:
        for _ in range(count):
            begin = time.perf_counter()
            client.call("status", {"x": 1})
            took.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(took))


def actors(pipe: Connection, endpoint: str, first: int, count: int) -> None:
    """Be some actors that send as fast as they may, until the pipe is closed."""
    spec = spec_of(images=True)
    blobs = [encode_row(row, spec) for row in rows_of(spec, 8)]
    spools = [MemorySpool() for _ in range(count)]
    senders = [
        StreamSender(endpoint, spool, Hello.of(f"actor-{first + i}", spool.session, spec))  # type: ignore[arg-type]
        for i, spool in enumerate(spools)
    ]
    while not all(sender.status().connected for sender in senders):
        time.sleep(0.01)
    pipe.send("ready")
    while not pipe.poll():
        for spool in spools:
            while spool.depth < 64:
                spool.append(blobs[spool.depth % 8])
        time.sleep(2e-3)
    for sender in senders:
        sender.close()


def many_actors(count: int, seconds: float, processes: int = 4) -> tuple[float, float]:
    """Return image transitions/s of that many saturating actors together, and Jain's index."""
    endpoint, each = free_endpoint(), count // processes
    counts, times = [], []
    with contextlib.ExitStack() as stack:
        pipe = stack.enter_context(child(learner, endpoint, spec_of(images=True), None))
        for n in range(processes):
            stack.enter_context(child(actors, endpoint, n * each, each))
        for wait in (1.0, seconds):
            time.sleep(wait)
            pipe.send("count")
            counts.append(pipe.recv())
            times.append(time.perf_counter())
    names = [f"actor-{n}" for n in range(count)]
    rates = np.array([counts[1].get(n, 0) - counts[0].get(n, 0) for n in names], float)
    rates /= times[1] - times[0]
    jain = float(rates.sum() ** 2 / (len(rates) * np.square(rates).sum()))
    return float(rates.sum()), jain


def loop_us(folder: Path, steps: int) -> tuple[float, float]:
    """Return p99.9 of a step's time that sends with the learner gone, and of a bare one [us].

    The loop runs at `RATE`; every other second it doesn't send. A step's time counts from when it
    is due until it is done.

    Args:
        folder: Of the spool.
        steps: Rows to send in all.
    """
    spec = spec_of(images=True)
    rows = rows_of(spec)
    took: dict[bool, list[float]] = {True: [], False: []}
    with Spool(folder / "spool.db", row=row_bytes(spec)) as spool:
        hello = Hello.of("actor-0", spool.session, spec)
        with StreamSender(free_endpoint(), spool, hello) as sender:

            def send(n: int) -> None:
                sender.check()
                spool.append(encode_row(rows[n % len(rows)], spec))

            block = round(RATE)
            for first in range(0, steps, block):
                for sends in (False, True) if first // block % 2 else (True, False):
                    took[sends] += _paced(send if sends else None, first, block)
    return tuple(1e6 * float(np.percentile(took[s], 99.9)) for s in (True, False))  # type: ignore[return-value]


def _paced(send: Callable[[int], None] | None, first: int, steps: int) -> list[float]:
    took, due = [], time.perf_counter()
    for n in range(first, first + steps):
        due = max(due + 1.0 / RATE, time.perf_counter() - 1.0 / RATE)
        time.sleep(max(0.0, due - time.perf_counter()))
        if send is not None:
            send(n)
        took.append(time.perf_counter() - due)
    return took
