"""Power cuts: whatever the disk had not synced is gone, and no promise is broken.

HANDRAIL_CUTS=1000 python -m pytest tests/linking/robustness/test_power.py -m slow
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from power import Operation, PowerLog, after_cut
from test_store import make_row

from handrail.errors import StorageError
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import decode_row, encode_row
from handrail.link.wire import Hello
from handrail.spec import EnvSpec, slices_of
from handrail.storage.database import Database
from handrail.storage.spool import Spool
from learner.store.admin.verify import verify
from learner.store.store import Incoming, Store

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4)
CUTS = int(os.environ.get("HANDRAIL_CUTS", "200"))
QUICK = 25


@pytest.fixture
def power() -> Iterator[PowerLog]:
    log = PowerLog()
    yield log
    log.close()


def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold the write-ahead log often, so that cuts fall into folding and starting anew."""
    from handrail.storage import database

    monkeypatch.setattr(database, "WAL_BYTES", 20 * 4096)
    monkeypatch.setattr(database, "WAL_LIMIT", 40 * 4096)


def cuts(operations: list[Operation], count: int) -> Iterator[tuple[list[Operation], int]]:
    rng = random.Random(0)
    for number in range(count):
        yield operations[: rng.randint(1, len(operations))], number


def fill_store(path: Path, log: PowerLog) -> None:
    """Store batches, and promise each when `put` returns, as the receiver does."""
    with Store(path, SPEC) as store:
        session = str(uuid.uuid4())
        store.open_sessions([session], "arm")
        rng, seq = random.Random(1), 1
        for _ in range(60):
            batch = []
            for _ in range(rng.randint(1, 30)):
                blob = encode_row(make_row(seq), SPEC)
                batch.append(Incoming(session, seq, blob, decode_row(blob, SPEC)))
                seq += 1
            store.put(batch)
            log.mark(store.last_durable(session))


def check_store(operations: list[Operation], count: int, folder: Path) -> None:
    for done, number in cuts(operations, count):
        place = folder / f"cut-{number}"
        place.mkdir()
        promised = max(after_cut(done, random.Random(number), place), default=0)
        with Store(place / "store.db", SPEC) as store:
            found = [s.seq for s in store.records()]
        assert found == list(range(1, len(found) + 1)), number
        assert len(found) >= promised, number
        assert verify(place / "store.db", SPEC).faults == [], number


def fill_spool(path: Path, log: PowerLog) -> None:
    """Append and acknowledge; promise rows when `flush` returns."""
    with Spool(path, retain_bytes=20_000) as spool:
        rng = random.Random(2)
        for _ in range(60):
            for _ in range(rng.randint(1, 30)):
                spool.append(b"%05d" % spool.depth + rng.randbytes(100))
            last = spool.flush(10.0)
            acked = max(0, last - rng.randint(0, 60))
            # What is acknowledged may be deleted from now on; what is beyond may not.
            log.mark((acked, 0))
            spool.acknowledge(spool.session, acked)
            log.mark((acked, last))


def check_spool(operations: list[Operation], count: int, folder: Path) -> None:
    for done, number in cuts(operations, count):
        place = folder / f"cut-{number}"
        place.mkdir()
        marks = after_cut(done, random.Random(number), place)
        acked = max((mark[0] for mark in marks), default=0)
        last = max((mark[1] for mark in marks), default=0)
        with Spool(place / "spool.db") as spool:
            rows, after = set(), 0
            while found := spool.read(after, 1000, 1 << 20):
                rows |= {row.seq for row in found}
                after = found[-1].id
        assert set(range(acked + 1, last + 1)) <= rows, number


@pytest.mark.slow
@pytest.mark.parametrize(
    "cuts", [QUICK, pytest.param(CUTS, marks=[pytest.mark.long, pytest.mark.timeout(3000)])]
)
@pytest.mark.parametrize("what", ["store", "spool"])
def test_no_promise_is_broken_by_a_power_cut(
    tmp_path: Path, power: PowerLog, monkeypatch: pytest.MonkeyPatch, what: str, cuts: int
) -> None:
    small_log(monkeypatch)
    (tmp_path / "live").mkdir()
    globals()[f"fill_{what}"](tmp_path / "live" / f"{what}.db", power)
    power.close()
    globals()[f"check_{what}"](power.operations, cuts, tmp_path)


def test_a_row_is_in_spool_or_store_wherever_the_power_is_cut(
    tmp_path: Path, power: PowerLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both on one disk, over a real socket: sync comes before ack, and ack before deletion."""
    small_log(monkeypatch)
    live = tmp_path / "live"
    live.mkdir()
    endpoint = f"ipc://@handrail-test-{uuid.uuid4().hex[:12]}"
    with (
        Store(live / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Spool(live / "spool.db", retain_bytes=0) as spool,
        StreamSender(endpoint, spool, Hello.of("arm", spool.session, SPEC), batch_rows=20),
    ):
        for seq in range(1, 600):
            spool.append(encode_row(make_row(seq), SPEC))
            if seq % 10 == 0:
                spool.flush(10.0)
                power.mark(seq)
                receiver.poll(0.002)
        while spool.depth:
            receiver.poll(0.02)
    power.close()
    for done, number in cuts(power.operations, QUICK):
        place = tmp_path / f"cut-{number}"
        place.mkdir()
        last = max(after_cut(done, random.Random(number), place), default=0)
        rows: set[int] = set()
        with Store(place / "store.db", SPEC) as store:
            stored = [s.seq for s in store.records()]
        assert len(stored) == len(set(stored))
        if (place / "spool.db").exists():
            with Spool(place / "spool.db") as spool:
                after = 0
                while found := spool.read(after, 1000, 1 << 20):
                    rows |= {row.seq for row in found}
                    after = found[-1].id
        assert set(range(1, last + 1)) <= rows | set(stored), number


def test_the_cut_finds_a_database_that_does_not_sync(
    tmp_path: Path, power: PowerLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same check fails where commits are not synced: the disk model is not too kind."""
    small_log(monkeypatch)
    opened = Database.__init__

    def careless(self: Database, *arguments: object, **named: object) -> None:
        opened(self, *arguments, **named)  # type: ignore[arg-type]
        self.writer.pragma("synchronous", "off")

    monkeypatch.setattr(Database, "__init__", careless)
    (tmp_path / "live").mkdir()
    fill_store(tmp_path / "live" / "store.db", power)
    power.close()
    monkeypatch.setattr(Database, "__init__", opened)
    with pytest.raises((AssertionError, StorageError, apsw.Error)):
        check_store(power.operations, QUICK, tmp_path)
