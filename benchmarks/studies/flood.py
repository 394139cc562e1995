"""What a flood of connections does to an actor that is allowed in, and to the learner's updates.

    python benchmarks/studies/flood.py --rounds 5 --seconds 20

The real learner, with keys, has more updates due than it can do. The actor sends a row every 50 ms
and waits until it is durable and acknowledged. In turns there is no flood, `flooder.py` floods the
learner's three ports, or it floods three ports of a process that does nothing but hold connections,
a decoy: on one machine the flood's own work takes from the actor what on two it would not, and
against the decoy only what it does to Handrail is left. Learner on the first core; actor, flood and
decoy on the second.

The last line is a JSON object: `p50_ms, p99_ms, updates_per_s` with the endings `_flood`, `_quiet`
and `_decoy` (medians of the rounds), `p99_ratio, update_ratio` against quiet and the same with
`_decoy` (medians of the rounds' ratios), `worst_p99_ratio, worst_update_ratio` (against quiet),
`tried_per_s` (connections), `descriptors_before, descriptors_most` (of the learner),
`descriptors_bound` (what its sockets may take).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actor.cli.run_folders import create_configured_run
from benchmarks.kit.link_sides import acquaint
from handrail.keys.connection_limits import TOTAL
from handrail.keys.host_keys import HostKeys
from handrail.link.rpc import RpcClient
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.wire import Hello
from handrail.spec import EnvSpec, load_spec
from handrail.storage.spool import Spool
from handrail.transition import Source, Transition

PERIOD_S = 0.05
DEMOS, STEPS = 3, 20
FLOODER = Path(__file__).with_name("flooder.py")


def rows(spec: EnvSpec, source: Source, episode: int) -> Iterator[Transition]:
    """Yield an episode of random numbers."""
    rng = np.random.default_rng(episode)
    for t in range(STEPS + 1):
        a, b, c, d = rng.uniform(-1, 1, (4, spec.action)).astype(np.float32)
        state = rng.standard_normal(spec.state, np.float32)
        row = Transition(episode, t, int(source), state, a, b, c, d)
        last = t == STEPS - 1
        yield replace(row, end=t == STEPS, success=last, terminated=last, reward=float(last))


def decoy() -> int:
    """Take connections on three ports, print these, and hold what comes; never returns."""
    with selectors.DefaultSelector() as selector:
        ports = []
        for _ in range(3):
            sock = socket.create_server(("127.0.0.1", 0))
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
            ports.append(sock.getsockname()[1])
        print(*ports, flush=True)
        held: deque[socket.socket] = deque()
        while True:
            for key, _ in selector.select():
                with contextlib.suppress(OSError):
                    held.append(key.fileobj.accept()[0])  # pyright: ignore[reportAttributeAccessIssue]
                while len(held) > TOTAL // 2:
                    held.popleft().close()


def free_port() -> int:
    """Return the first of three ports in a row that are free now."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in (first + 1, first + 2):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


class Bench:
    """A learner that is busy, and an actor's end."""

    def __init__(self, folder: Path, cores: list[int], stack: contextlib.ExitStack) -> None:
        acquaint(folder / "keys")
        self.port = free_port()
        overrides = ["--link.address", "127.0.0.1", "--link.port", str(self.port)]
        overrides += [
            "--learner.preset",
            "rlpd",
            "--learner.utd",
            "1000",
            "--run.demos",
            str(DEMOS),
        ]
        run, _ = create_configured_run("reach", overrides, folder / "run", "train")
        self.spec = load_spec(run.spec)
        command = [sys.executable, "-m", "learner", "--run", str(run.folder)]
        self.learner = subprocess.Popen(
            ["taskset", "-c", str(cores[0]), *command, "--keys", str(folder / "keys" / "learner")]
        )
        stack.callback(self.learner.wait)
        stack.callback(self.learner.terminate)
        keys = HostKeys(folder / "keys" / "robot")
        where = [f"tcp://127.0.0.1:{self.port + i}" for i in range(3)]
        self.spool = stack.enter_context(Spool(folder / "spool.db"))
        hello = Hello.of("actor-0", self.spool.session, self.spec)
        self.sender = stack.enter_context(StreamSender(where[0], self.spool, hello, keys=keys))
        self.requests = RpcClient(where[2], keys=keys)
        stack.callback(self.requests.close)
        self.episode = 0
        self._online = iter(())

    def begin(self) -> None:
        """Give the learner its demonstrations and enough steps for its updates never to end."""
        for episode in range(DEMOS):
            for row in rows(self.spec, Source.DEMO, episode):
                self.spool.append(encode_row(row, self.spec))
        self.episode = DEMOS
        for _ in range(1000):
            self.spool.append(self._next())
        self.sender.drain(60.0)
        while (status := self.status())["updates"] < 200:
            time.sleep(0.5)
        print(f"the learner has {status['due']} updates due")

    def status(self) -> dict[str, Any]:
        """Return what the learner says of itself."""
        return self.requests.call("status", timeout_s=60.0)

    def descriptors(self) -> int:
        """Return how many descriptors the learner has open."""
        return len(os.listdir(f"/proc/{self.learner.pid}/fd"))

    def measure(self, ports: list[int], seconds: float, core: int) -> dict[str, float]:
        """Flood these ports, if any; return what the actor and the learner make of it."""
        command = [sys.executable, str(FLOODER), "--seconds", str(seconds + 2), *map(str, ports)]
        flooder = subprocess.Popen(
            ["taskset", "-c", str(core), *command] if ports else ["echo", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            time.sleep(1.0)
            before, begin = self.status()["updates"], time.monotonic()
            waits, most = [], 0
            while (now := time.monotonic()) < begin + seconds:
                self.spool.append(self._next())
                while self.spool.depth:
                    time.sleep(2e-4)
                    self.sender.check()
                waits.append(time.monotonic() - now)
                most = max(most, self.descriptors())
                time.sleep(max(0.0, now + PERIOD_S - time.monotonic()))
            updates = self.status()["updates"] - before
            took = time.monotonic() - begin
            tried = int(flooder.communicate(timeout=30)[0])
        finally:
            flooder.kill()
            flooder.wait()
        p50, p99 = 1e3 * np.percentile(waits, [50, 99])
        return {"p50": p50, "p99": p99, "updates": updates / took, "most": most,
                "tried": tried / (seconds + 2)}  # fmt: skip

    def _next(self) -> bytes:
        row = next(self._online, None)
        if row is None:
            self.episode += 1
            self._online = rows(self.spec, Source.ONLINE, self.episode)
            row = next(self._online)
        return encode_row(row, self.spec)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each side in a round [s]")
    parser.add_argument("--decoy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decoy:
        return decoy()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    told: dict[str, list[dict[str, float]]] = {"flood": [], "quiet": [], "decoy": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handrail-flood-")))
        bench = Bench(folder, cores, stack)
        sink = subprocess.Popen(
            [sys.executable, __file__, "--decoy"], stdout=subprocess.PIPE, text=True
        )
        stack.callback(sink.wait)
        stack.callback(sink.kill)
        assert sink.stdout is not None
        ports: dict[str, list[int]] = {
            "quiet": [],
            "decoy": [int(port) for port in sink.stdout.readline().split()],
            "flood": [bench.port + i for i in range(3)],
        }
        bench.begin()
        before = bench.descriptors()
        for n in range(options.rounds):
            for side in list(ports)[:: 1 if n % 2 == 0 else -1]:
                told[side].append(bench.measure(ports[side], options.seconds, cores[-1]))
                line = ", ".join(f"{name} {value:.1f}" for name, value in told[side][-1].items())
                print(f"round {n + 1}, {side}: {line}", flush=True)

    def all_of(side: str, name: str) -> np.ndarray:
        return np.array([row[name] for row in told[side]])

    def median(side: str, name: str) -> float:
        return round(float(np.median(all_of(side, name))), 2)

    figures: dict[str, float] = {}
    for name, unit in (("p50", "p50_ms"), ("p99", "p99_ms"), ("updates", "updates_per_s")):
        figures |= {f"{unit}_{side}": median(side, name) for side in told}
    for side, ending in (("quiet", ""), ("decoy", "_decoy")):
        p99 = all_of("flood", "p99") / all_of(side, "p99")
        updates = all_of("flood", "updates") / all_of(side, "updates")
        figures[f"p99_ratio{ending}"] = round(float(np.median(p99)), 3)
        figures[f"update_ratio{ending}"] = round(float(np.median(updates)), 3)
        if side == "quiet":
            figures["worst_p99_ratio"] = round(float(p99.max()), 3)
            figures["worst_update_ratio"] = round(float(updates.min()), 3)
    figures |= {
        "tried_per_s": median("flood", "tried"),
        "descriptors_before": before,
        "descriptors_most": int(all_of("flood", "most").max()),
        "descriptors_bound": before + 3 * TOTAL,
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
