"""A row that the spool's disk has damaged is lost by itself: the rows behind it arrive."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest
from made_link import SPEC, Side, blob, take

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.link.label_codec import encode_label
from handrail.link.receiver import StreamReceiver
from handrail.link.record_codec import checksum_ok
from handrail.link.tombstone import CORRUPT_ROW
from handrail.storage.spool import Spool
from learner.store.admin.verify import verify
from learner.store.store import Store


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/stream"


def damage(spool: Path, seq: int) -> None:
    """Change one bit of the row with this number, as a disk does."""
    with apsw.Connection(str(spool)) as db:
        ((row, data),) = db.execute(
            "SELECT id, blob FROM rows WHERE id & 0xFFFFFFFFFF = ?", (seq,)
        ).fetchall()
        assert isinstance(data, bytes)
        data = bytearray(data)
        data[-3] ^= 4
        db.execute("UPDATE rows SET blob = ? WHERE id = ?", (bytes(data), row))


def test_rows_behind_a_damaged_one_arrive_and_the_loss_is_noted(
    tmp_path: Path, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(tmp_path / "arm.db", actor="arm") as spool:
        for t in range(10):
            spool.append(blob(t))
        spool.append(encode_label(EpisodeLabel("arm", 0, Outcome.FAILURE)))
        session = spool.session
    for seq in (4, 5, 9, 11):  # one is a label
        damage(tmp_path / "arm.db", seq)
    store_path, older = tmp_path / "store.db", tmp_path / "older.db"
    with Store(older, SPEC):
        pass
    with (
        Store(store_path, SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Side(tmp_path, endpoint) as actor,
    ):
        actor.spool.append(blob(10))
        assert take(receiver, 8) == [0, 1, 2, 5, 6, 7, 9, 10]
        actor.sender.drain(5.0)
        actor.sender.check()
        status = actor.sender.status()
        assert (status.depth, status.corrupt, status.refusal) == (0, 4, "")
        assert (receiver.refused, receiver.missing) == (0, 4)
        assert store.last_durable(session) == 11
    assert "row 4 of session" in caplog.text
    whole = verify(store_path, SPEC)
    assert (whole.rows, len(whole.faults)) == (8, 4)
    assert all("lost for good" in fault for fault in whole.faults)
    shutil.copy(store_path, tmp_path / "kept.db")

    # A store that has none of it is refilled just so, and one that has it all takes nothing twice.
    for path, wanted in ((older, [0, 1, 2, 5, 6, 7, 9, 10, 20]), (tmp_path / "kept.db", [20, 20])):
        with (
            Store(path, SPEC) as store,
            StreamReceiver(endpoint, store, SPEC) as receiver,
            Side(tmp_path, endpoint) as actor,
        ):
            actor.spool.append(blob(20))
            assert take(receiver, len(wanted)) == wanted
            actor.sender.drain(5.0)
            actor.sender.check()
        assert len(verify(path, SPEC).faults) == 4


def test_a_store_that_has_what_the_spool_lost_keeps_it(tmp_path: Path, endpoint: str) -> None:
    """The acknowledgement was on its way when the actor died, and then its disk went bad."""
    copy = tmp_path / "copy.db"
    with Spool(tmp_path / "arm.db", actor="arm") as spool:
        for t in range(6):
            spool.append(blob(t))
    shutil.copy(tmp_path / "arm.db", copy)
    store_path = tmp_path / "store.db"
    with (
        Store(store_path, SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Side(tmp_path, endpoint) as actor,
    ):
        take(receiver, 6)
        actor.sender.drain(5.0)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"arm.db{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, tmp_path / "arm.db")
    damage(tmp_path / "arm.db", 3)
    with (
        Store(store_path, SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Side(tmp_path, endpoint) as actor,
    ):
        actor.spool.append(blob(6))
        assert take(receiver, 1) == [6]
        assert (len(store), receiver.missing) == (7, 0)
    assert verify(store_path, SPEC).faults == []


def test_the_mark_is_neither_row_nor_label_and_whole_ones_are_told_from_damaged() -> None:
    label = encode_label(EpisodeLabel("arm", 0, Outcome.ABORT))
    for data in (blob(0), label):
        assert checksum_ok(data)
        assert len(data) > len(CORRUPT_ROW)
        for place in (0, 33, len(data) - 1):
            wrong = bytearray(data)
            wrong[place] ^= 1
            assert not checksum_ok(bytes(wrong))
