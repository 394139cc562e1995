"""What one robot costs the learner's host: the unit costs of docs/scale.md.

    python benchmarks/studies/scale.py --rows 4000

Costs are processor time, bytes and memory, which other work on the machine hardly changes; nothing
here is a rate. Rows are those of `link.py`: 20 numbers and a 7-dimensional action, with or without
one new 128 x 128 x 3 frame of each of two cameras, all incompressible.

The last line is a JSON object: for `state` and `image` rows, with and without keys, the learner's
processor time per durable row [us], the actor's, and the store's bytes per row; the replay's bytes
per row; bytes of a publication and processor time to send it to one more actor [us]; memory of one
more connection [B].
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from benchmarks.kit.link_sides import (
    ACTION,
    STATE,
    acquaint,
    child,
    free_endpoint,
    learner,
    rows_of,
    spec_of,
)
from handrail.keys.host_keys import HostKeys
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row, row_bytes
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from learner.algo.action import make_action_composer
from learner.algo.update import init_state
from learner.config import LearnerConfig
from learner.data.replay import Replay
from learner.nets.pytree_io import flatten
from learner.presets import preset
from learner.store.store import Store


def resident() -> int:
    """Return the memory that this process holds [B]."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def usage(store: Store) -> tuple[float, int, int]:
    """Return this process's processor time [s] and memory [B], and the store's rows."""
    return time.process_time(), resident(), len(store)


def rows_cost(images: bool, keyed: bool, count: int, parent: Path) -> dict[str, float]:
    """Return what a durable row costs both hosts.

    Args:
        images: Two cameras, or none.
        keyed: Over keys.
        count: Rows to send.
        parent: Where spool and store are made.
    """
    spec, endpoint = spec_of(images), free_endpoint()
    rows = rows_of(spec)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        keys = folder / "keys" if keyed else None
        if keys is not None:
            acquaint(keys)
        host = None if keys is None else HostKeys(keys / "robot")
        with (
            Spool(folder / "spool.db", row=row_bytes(spec)) as spool,
            child(learner, endpoint, spec, folder, keys, usage) as pipe,
            StreamSender(endpoint, spool, Hello.of("a", spool.session, spec), keys=host) as sender,
        ):
            spool.append(encode_row(rows[0], spec))
            sender.drain(60.0)
            pipe.send("now")
            (before, _, _), here = pipe.recv(), time.process_time()
            for n in range(count):
                sender.check()
                while spool.depth_bytes > 16 << 20:
                    time.sleep(1e-3)
                spool.append(encode_row(rows[n % len(rows)], spec))
            sender.drain(600.0)
            here = time.process_time() - here
            pipe.send("now")
            after, _, stored = pipe.recv()
        size = sum(path.stat().st_size for path in folder.glob("store.db*"))
    return {
        "learner_us": round(1e6 * (after - before) / count, 1),
        "actor_us": round(1e6 * here / count, 1),
        "row_bytes": row_bytes(spec),
        "store_bytes": round(size / stored),
    }


def replay_bytes(images: bool) -> int:
    """Return the memory of a row in a full replay [B], of its arrays alone."""
    spec, count = spec_of(images), 2_000
    replay = Replay(LearnerConfig(capacity=count, n_step=1), spec, frames=images)
    rows = rows_of(spec)
    for n in range(count):
        replay.add(replace(rows[n % len(rows)], episode=n // len(rows)))
    return round(arrays_bytes(replay) / count)


def arrays_bytes(owner: object) -> int:
    """Return the bytes of the arrays that an object and its parts hold."""
    found = 0
    parts = owner.values() if isinstance(owner, dict) else vars(owner).values()
    for value in parts:
        if isinstance(value, np.ndarray):
            found += value.nbytes
        elif isinstance(value, dict) or type(value).__module__.startswith("learner."):
            found += arrays_bytes(value)
    return found


def listen(pipe: Connection, endpoint: str, count: int) -> None:
    """Be some subscribers; on any message answer how many have the newest value."""
    found = [0] * count
    with_all = [WeightsSubscriber(endpoint, ("policy",)) for _ in range(count)]
    pipe.send("ready")
    while True:
        for i, weights in enumerate(with_all):
            got = weights.latest("policy")
            found[i] = found[i] if got is None else got[0]["number"]
        if pipe.poll(0.01):
            try:
                pipe.recv()
            except EOFError:
                break
            pipe.send(min(found))
    for weights in with_all:
        weights.close()


def publication_cost(rounds: int = 30, count: int = 16) -> dict[str, float]:
    """Return the size of the default's publication, and what one more actor costs."""
    composer = make_action_composer(preset("residual_hil"), spec_of(False))
    state = init_state(composer, STATE, ACTION, jax.random.key(0))
    weights = flatten(state.ema_actor, "actor") | flatten(state.critic, "critic")
    size = sum(array.nbytes for array in weights.values())
    used: dict[int, float] = {}
    for listeners in (1, count):
        endpoint = free_endpoint()
        with WeightsPublisher(endpoint) as broadcast, child(listen, endpoint, listeners) as pipe:
            time.sleep(1.0)
            begin = time.process_time()
            for number in range(1, rounds + 1):
                broadcast.publish("policy", {"number": number}, weights)
                while True:
                    pipe.send("newest")
                    if pipe.recv() >= number:
                        break
            used[listeners] = (time.process_time() - begin) / rounds
    more = (used[count] - used[1]) / (count - 1)
    return {"publication_bytes": size, "publication_us_per_actor": round(1e6 * more, 1)}


def connection_bytes(count: int = 64) -> int:
    """Return the memory of one more connected actor in the learner's process [B]."""
    spec, used = spec_of(False), {}
    with tempfile.TemporaryDirectory() as name:
        for senders in (1, count):
            endpoint, folder = free_endpoint(), Path(name) / str(senders)
            folder.mkdir()
            with (
                child(learner, endpoint, spec, folder, None, usage) as pipe,
                child(idle, endpoint, folder, senders),
            ):
                time.sleep(1.0)
                pipe.send("now")
                used[senders] = pipe.recv()[1]
    return round((used[count] - used[1]) / (count - 1))


def idle(pipe: Connection, endpoint: str, folder: Path, count: int) -> None:
    """Be some actors that are connected and send nothing."""
    spec = spec_of(False)
    spools = [Spool(folder / f"{n}.db", actor=f"a{n}") for n in range(count)]
    senders = [
        StreamSender(endpoint, spool, Hello.of(spool.actor, spool.session, spec))
        for spool in spools
    ]
    while not all(sender.status().connected for sender in senders):
        time.sleep(0.01)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        pipe.recv()
    for sender, spool in zip(senders, spools, strict=True):
        sender.close()
        spool.close()


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000, help="of each kind that are sent")
    parser.add_argument("--folder", type=Path, help="for spool and store; the system's if none")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="handrail-scale-", dir=options.folder) as folder:
        for images in (False, True):
            for keyed in (False, True):
                name = ("image" if images else "state") + ("_keyed" if keyed else "")
                found[name] = rows_cost(images, keyed, options.rows, Path(folder))
                print(name, found[name], flush=True)
    found |= {f"replay_{n}_bytes": replay_bytes(n == "image") for n in ("state", "image")}
    found |= publication_cost()
    found["connection_bytes"] = connection_bytes()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
