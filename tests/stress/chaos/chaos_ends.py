"""The two ends in a run of `chaos.py`: an actor that keeps a journal, and a learner.

What an actor makes follows from one number, its life, so that the audit can make it again: episodes
of 10 to 60 steps, each closed by its end row. The journal has a line for each row, written and
synced *after* the spool called the row durable, with the hash of the row and a running hash over
all rows of the session.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kit"))

import numpy as np
from made_link import SPEC

from handrail.errors import ProtocolMismatch
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.wire import Hello
from handrail.process import attach_to_supervisor
from handrail.storage.spool import Spool
from handrail.transition import Source, Transition
from learner.store.store import Store

BURST = 20  # [rows], between two looks at the disk at most: more can't be missing in the journal
LIFE_BITS = 20
SETTLE_S = 240.0  # [s], for everything to arrive once nothing is made any more
LINE = 177  # [B], of the journal
_EPISODE_BITS = 12


class Entry(NamedTuple):
    """One row as the journal has it."""

    session: str
    seq: int
    digest: str  # sha256 of the row, in hex
    chain: str  # sha256 over the chain before it and this digest, in hex


def link(chain: str, digest: str) -> str:
    """Return the running hash that follows `chain` when a row of this hash is added."""
    return hashlib.sha256(f"{chain}{digest}".encode()).hexdigest()


def to_line(entry: Entry) -> str:
    """Return the journal's line for a row; each has the same length."""
    return f"{entry.session} {entry.seq:9d} {entry.digest} {entry.chain}\n"


def read_journal(path: Path) -> list[Entry]:
    """Return what a journal holds; half a line at its end was cut off by a kill and not counted."""
    whole = path.read_text().splitlines(keepends=True) if path.exists() else []
    fields = [line.split() for line in whole if line.endswith("\n")]
    return [Entry(session, int(seq), digest, chain) for session, seq, digest, chain in fields]


def rows_of(life: int) -> Iterator[Transition]:
    """Yield what an actor of this life makes, for ever."""
    rng = random.Random(life)
    zero = np.zeros(SPEC.action, np.float32)
    for number in range(1 << _EPISODE_BITS):
        episode = life << _EPISODE_BITS | number
        steps = rng.randint(10, 60)
        for t in range(steps + 1):
            noise = hashlib.shake_128(f"{episode} {t}".encode()).digest(2 * SPEC.state)
            state = np.frombuffer(noise, "<u2").astype(np.float32)
            last = t == steps - 1
            yield Transition(
                episode, t, Source.ONLINE, state, zero, zero, zero, zero,
                truncated=last, end=t == steps,
            )  # fmt: skip


def life_of(row: Transition) -> int:
    """Return the life of the actor that made a row."""
    return row.episode >> _EPISODE_BITS


class Journal:
    """Writes the journal of one session."""

    def __init__(self, path: Path, session: str) -> None:
        torn = path.stat().st_size % LINE if path.exists() else 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if torn:
            os.ftruncate(self._fd, path.stat().st_size - torn)
        self._session, self._chain = session, ""

    def write(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Append rows that the spool called durable, and sync."""
        lines = []
        for seq, blob in rows:
            digest = hashlib.sha256(blob).hexdigest()
            self._chain = link(self._chain, digest)
            lines.append(to_line(Entry(self._session, seq, digest, self._chain)))
        os.write(self._fd, "".join(lines).encode())
        os.fsync(self._fd)


def actor(folder: Path, name: str, endpoint: str, rate: float) -> None:
    """Make rows until told to stop, then deliver what is left; being refused is borne.

    Args:
        folder: Of the run.
        name: Of the actor.
        endpoint: Where it believes the learner to be.
        rate: Rows made at most [1/s].
    """
    life = random.SystemRandom().getrandbits(LIFE_BITS)
    rows, stop = rows_of(life), folder / "stop"
    refusal, refilled = "", 0
    with (
        Spool(folder / f"{name}.db", actor=name, task_hash=SPEC.task_hash) as spool,
        StreamSender(
            endpoint, spool, Hello.of(name, spool.session, SPEC), answer_s=0.5, batch_rows=50
        ) as sender,
        (folder / f"{name}.refused").open("a") as refused,
        (folder / f"{name}.refilled").open("a") as again,
    ):
        journal = Journal(folder / f"{name}.journal", spool.session)

        def look() -> None:
            """Note rows sent again, and refusals, at which a real actor ends."""
            nonlocal refusal, refilled
            before, refilled = refilled, sender.status().refilled
            if refilled > before:
                print(refilled - before, file=again, flush=True)
            try:
                sender.check()
            except ProtocolMismatch as error:
                if str(error) != refusal:
                    print(error, file=refused, flush=True)
                refusal = str(error)
            else:
                refusal = ""

        while not stop.exists():
            blobs = [encode_row(next(rows), SPEC) for _ in range(random.randint(1, BURST))]
            seqs = [spool.append(blob) for blob in blobs]
            spool.flush(10.0)
            journal.write(zip(seqs, blobs, strict=True))
            look()
            time.sleep(len(blobs) / rate)
        deadline = time.monotonic() + SETTLE_S
        while spool.depth or not sender.status().connected:
            look()
            assert time.monotonic() < deadline, f"{spool.depth} rows left: {sender.status()}"
            time.sleep(0.02)
        look()


def learner(folder: Path, endpoint: str) -> None:
    """Store rows until terminated; note what was refused, dropped and given up as lost."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    with (
        Store(folder / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        (folder / "learner.counts").open("a") as counts,
    ):
        before = (0, 0, 0)
        while not stopping:
            receiver.poll(0.05)
            now = (receiver.refused, receiver.missing, receiver.rate_limited)
            if now != before:
                print(*(n - b for n, b in zip(now, before, strict=True)), file=counts, flush=True)
                before = now


if __name__ == "__main__":
    attach_to_supervisor(signal.SIGKILL)
    if sys.argv[1] == "learner":
        learner(Path(sys.argv[2]), sys.argv[3])
    else:
        actor(Path(sys.argv[2]), sys.argv[1], sys.argv[3], float(sys.argv[4]))
