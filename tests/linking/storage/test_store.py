"""The store holds each row once, in order, durably, and says so when one is damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from handrail.errors import ProtocolMismatch, RunFolderError, StorageError
from handrail.link.transition_codec import decode_row, encode_row
from handrail.spec import EnvSpec, slices_of
from handrail.transition import Source, Transition
from learner.store.store import Incoming, Store

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4)


def make_row(t: int, source: int = Source.ONLINE) -> Transition:
    z = np.zeros(SPEC.action, np.float32)
    return Transition(0, t, source, np.full(SPEC.state, t, np.float32), z, z, z, z)


def incoming(session: str, seqs: range) -> list[Incoming]:
    rows = []
    for seq in seqs:
        blob = encode_row(make_row(seq), SPEC)
        rows.append(Incoming(session, seq, blob, decode_row(blob, SPEC)))
    return rows


def test_rows_come_back_in_order_of_arrival_from_any_cursor(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        assert store.put_rows("demo", [make_row(t, Source.DEMO) for t in range(700)]) == 700
        assert store.put_rows("inline", [make_row(t) for t in range(700, 900)]) == 900
        assert [(c, r.t) for c, r in store.rows()] == [(t + 1, t) for t in range(900)]
    with Store(path, SPEC) as store:
        assert [c for c, _ in store.rows(after=895)] == [896, 897, 898, 899, 900]
        assert (store.cursor, len(store)) == (900, 900)
        assert store.count(Source.DEMO) == 700
        assert store.count(Source.ONLINE) == 200
        assert store.count(Source.EVAL) == 0
        assert {a.actor for a in store.labelled_rows(after=690)} == {"demo", "inline"}


def test_redelivery_changes_nothing(tmp_path: Path) -> None:
    path, a, b = tmp_path / "store.db", str(uuid.uuid4()), str(uuid.uuid4())
    with Store(path, SPEC) as store:
        assert store.open_sessions([a, b], "arm") == {a: 0, b: 0}
        first = store.put(incoming(a, range(1, 11)))
        assert [x.cursor for x in first] == list(range(1, 11))
        again = store.put(incoming(a, range(5, 15)) + incoming(b, range(1, 4)))
        assert [(x.session, x.seq) for x in again] == [
            *((a, seq) for seq in range(11, 15)),
            *((b, seq) for seq in range(1, 4)),
        ]
        assert store.put(incoming(a, range(1, 15))) == []
        assert store.put(incoming(b, range(4, 5)) * 3)[0].seq == 4
        assert (store.last_durable(a), store.last_durable(b), store.count(Source.ONLINE)) == (
            14,
            4,
            18,
        )
    with Store(path, SPEC) as store:
        assert store.open_sessions([a], "arm") == {a: 14}
        assert store.put(incoming(a, range(1, 16)))[0].cursor == 19
        assert len(list(store.rows())) == len(store) == 19


def test_many_sessions_of_one_hello_are_one_commit(tmp_path: Path) -> None:
    """A spool may hold thousands of dead sessions; a commit each would stop the learner."""
    names = [str(uuid.uuid4()) for _ in range(300)]
    with Store(tmp_path / "store.db", SPEC) as store:
        changes = []
        store._db.writer.set_commit_hook(lambda: changes.append(1) or False)
        assert store.open_sessions(names, "arm") == dict.fromkeys(names, 0)
        assert store.open_sessions([*names, "new", "new"], "arm")["new"] == 0
        assert store.open_sessions(names, "arm") == dict.fromkeys(names, 0)
        assert len(changes) == 2
    with Store(tmp_path / "store.db", SPEC) as store:
        assert len({store._sessions[name][0] for name in [*names, "new"]}) == 301


def test_digests_are_those_of_the_blobs(tmp_path: Path) -> None:
    session = str(uuid.uuid4())
    rows = incoming(session, range(1, 4))
    with Store(tmp_path / "store.db", SPEC) as store:
        store.open_sessions([session], "arm")
        store.put(rows)
        wanted = [(session, r.seq, hashlib.sha256(r.blob).hexdigest()) for r in rows]
        assert list(store.digests()) == wanted


def test_a_reader_beside_the_writer_sees_what_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        store.put_rows("inline", [make_row(0)])
        with Store(path, SPEC, readonly=True) as reader:
            assert len(list(reader.rows())) == 1
            store.put_rows("inline", [make_row(1)])
            store.put_rows("other", [make_row(2)])
            assert [row.t for _, row in reader.rows()] == [0, 1, 2]
            with pytest.raises(StorageError):
                reader.put_rows("intruder", [make_row(3)])
    with Store(path, SPEC, readonly=True) as reader:
        assert len(reader) == 3
    with pytest.raises(StorageError, match="does not exist"):
        Store(tmp_path / "none.db", SPEC, readonly=True)


def test_rows_that_arrive_while_reading_are_read_too(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db", SPEC) as store:
        store.put_rows("inline", [make_row(t) for t in range(3)])
        rows = store.rows()
        next(rows)
        store.put_rows("inline", [make_row(3)])
        assert [row.t for _, row in rows] == [1, 2, 3]


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm-7", [make_row(t) for t in range(5)])
    with sqlite3.connect(path) as db:
        (blob,) = db.execute("SELECT blob FROM rows WHERE cursor = 3").fetchone()
        blob = blob[:90] + bytes([blob[90] ^ 1]) + blob[91:]
        db.execute("UPDATE rows SET blob = ? WHERE cursor = 3", (blob,))
    db.close()
    with Store(path, SPEC) as store:
        rows = store.rows()
        assert [next(rows)[0] for _ in range(2)] == [1, 2]
        with pytest.raises(StorageError, match=r"row 3 .*arm-7.*seq 3.*checksum"):
            next(rows)


def test_another_task_spec_format_or_file_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm", [make_row(0)])
    newer = tmp_path / "newer.db"
    newer.write_bytes(path.read_bytes())
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    text = tmp_path / "text.db"
    text.write_text("hello")
    for file, spec, error, words in (
        (path, dataclasses.replace(SPEC, task_hash="4567"), RunFolderError, "0123.*4567"),
        (path, dataclasses.replace(SPEC, horizon=51), RunFolderError, "of spec"),
        (newer, SPEC, RunFolderError, "format 9"),
        (text, SPEC, StorageError, "not a SQLite file"),
    ):
        before = file.read_bytes()
        with pytest.raises(error, match=words):
            Store(file, spec)
        assert file.read_bytes() == before


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC), pytest.raises(StorageError, match="in use"):
        Store(path, SPEC)


def test_a_row_that_does_not_fit_the_spec_stores_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db", SPEC) as store:
        wrong = dataclasses.replace(make_row(1), state=np.zeros(3, np.float32))
        with pytest.raises(ProtocolMismatch, match="state"):
            store.put_rows("arm", [make_row(0), wrong])
        assert len(store) == 0
        assert store.put_rows("arm", [make_row(0)]) == 1


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from handrail.errors import StorageError
from test_store import SPEC, make_row
from learner.store.store import Store
store = Store(Path(sys.argv[1]), SPEC)
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
stored = 0
try:
    while True:
        stored = store.put_rows("arm", [make_row(t) for t in range(stored, stored + 10)])
except StorageError as error:
    print(stored, error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
stored = store.put_rows("arm", [make_row(t) for t in range(store.cursor, store.cursor + 10)])
print(stored, flush=True)
store.close()
"""


def test_a_full_disk_is_said_clearly_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()
    assert "disk full" in out[0]
    assert str(path) in out[0]
    stored = int(out[1])
    assert stored > 100
    with Store(path, SPEC) as store:
        assert [(c, row.t) for c, row in store.rows()] == [(t + 1, t) for t in range(stored)]
        assert store.count(Source.ONLINE) == stored
