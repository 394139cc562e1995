"""Actor and learner are SIGKILLed at random moments: each row is stored once, none is lost.

The actor keeps a journal of its own: the hash of a row is written *after* the spool called it
durable. At the end the store must hold every row of the journal, each row once, in each session's
order, and nothing that the actor didn't make.

    HANDRAIL_KILLS=50 python -m pytest tests/test_link_kill.py -m long
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from handrail.codec import encode_row
from handrail.spec import EnvSpec, slices_of
from handrail.spool import Spool
from handrail.transition import Source, Transition
from handrail.transport import StreamReceiver, StreamSender
from handrail.wire import Hello
from learner.store import Store

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4)
LONG_KILLS = int(os.environ.get("HANDRAIL_KILLS", "20"))  # of each process


def actor(folder: Path, endpoint: str, stop: Path) -> None:
    """Make rows without pause until told to stop, then deliver what is left."""
    life = int.from_bytes(os.urandom(3), "little")
    journal = os.open(folder / "journal.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    z = np.zeros(SPEC.action, np.float32)
    with (
        Spool(folder / "spool.db", task_hash=SPEC.task_hash) as spool,
        StreamSender(endpoint, spool, Hello.of("arm", spool.session, SPEC), answer_s=0.3) as sender,
    ):
        t = 0
        while not stop.exists():
            lines = []
            for _ in range(random.randint(1, 20)):
                state = np.full(SPEC.state, random.random(), np.float32)
                blob = encode_row(Transition(life, t, Source.ONLINE, state, z, z, z, z), SPEC)
                seq, t = spool.append(blob), t + 1
                lines.append(f"{spool.session} {seq} {hashlib.sha256(blob).hexdigest()}\n")
            spool.flush(10.0)
            os.write(journal, "".join(lines).encode())
            os.fsync(journal)
            sender.check()
            time.sleep(0.002)
        sender.drain(20.0)


def learner(folder: Path, endpoint: str) -> None:
    """Store rows until terminated."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    with (
        Store(folder / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        while not stopping:
            receiver.poll(0.05)
        assert receiver.refused == 0
        assert receiver.missing == 0


def audit(folder: Path) -> int:
    """Compare store and journal; return the number of rows."""
    journal: dict[tuple[str, int], str] = {}
    for line in (folder / "journal.txt").read_text().splitlines():
        session, seq, digest = line.split()
        journal[session, int(seq)] = digest
    with Store(folder / "store.db", SPEC) as store:
        stored = list(store.digests())
        lives = [(a.session, a.row.episode, a.row.t) for a in store.arrivals()]
    assert max(Counter((session, seq) for session, seq, _ in stored).values()) == 1
    digests = {(session, seq): digest for session, seq, digest in stored}
    assert [key for key in journal if digests.get(key) != journal[key]] == []
    assert len(set(digests.values())) == len(digests)
    # Rows that the actor made durable but was killed before journaling may be there on top: they
    # are the tail of their session, and no more than one burst.
    by_session: dict[str, list[int]] = defaultdict(list)
    for session, seq, _ in stored:
        by_session[session].append(seq)
    for session, seqs in by_session.items():
        assert seqs == list(range(1, len(seqs) + 1))
        journaled = max((seq for name, seq in journal if name == session), default=0)
        assert 0 <= len(seqs) - journaled <= 20
    assert len(set(lives)) == len(lives)
    with Spool(folder / "spool.db", task_hash=SPEC.task_hash) as spool:
        assert spool.depth == 0
    return len(stored)


def run(folder: Path, kills: int, pause_s: tuple[float, float], seed: int) -> int:
    """Run both processes, kill and restart each `kills` times, end in peace, and audit."""
    rng = random.Random(seed)
    endpoint = f"ipc://@handrail-test-{uuid.uuid4().hex[:12]}"
    stop = folder / "stop"
    logs = {role: (folder / f"{role}.log").open("wb") for role in ("actor", "learner")}
    arguments = {"actor": [str(folder), endpoint, str(stop)], "learner": [str(folder), endpoint]}

    def start(role: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", __file__, role, *arguments[role]]
        return subprocess.Popen(command, stdout=logs[role], stderr=logs[role])

    running = {role: start(role) for role in arguments}
    try:
        time.sleep(1.0)
        for role in rng.sample(["actor", "learner"] * kills, 2 * kills):
            time.sleep(rng.uniform(*pause_s))
            assert running[role].poll() is None, (folder / f"{role}.log").read_text()
            running[role].kill()
            running[role].wait()
            running[role] = start(role)
        time.sleep(0.5)
        stop.touch()
        assert running["actor"].wait(60) == 0, (folder / "actor.log").read_text()
        running["learner"].terminate()
        assert running["learner"].wait(20) == 0, (folder / "learner.log").read_text()
    finally:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for log in logs.values():
            log.close()
    return audit(folder)


def test_no_row_is_lost_or_doubled_when_actor_and_learner_are_killed(tmp_path: Path) -> None:
    assert run(tmp_path, kills=3, pause_s=(0.2, 0.9), seed=0) > 500


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_row_is_lost_or_doubled_over_many_kills(tmp_path: Path, seed: int) -> None:
    assert run(tmp_path, kills=LONG_KILLS, pause_s=(0.02, 1.2), seed=seed) > 1000


if __name__ == "__main__":
    if sys.argv[1] == "actor":
        actor(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        learner(Path(sys.argv[2]), sys.argv[3])
