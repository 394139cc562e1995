"""The spool holds every row it called durable until the row is acknowledged, whatever happens."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest

from handrail.errors import RunFolderError, StorageError
from handrail.storage.spool import Spool


def contents(spool: Spool) -> list[tuple[str, int, bytes]]:
    rows, after = [], spool.acknowledged_id()
    while batch := spool.read(after, 100, 1 << 20):
        rows += [(row.session, row.seq, row.blob) for row in batch]
        after = batch[-1].id
    return rows


def fill(spool: Spool, count: int, size: int = 50) -> list[tuple[str, int, bytes]]:
    blobs = [bytes([i % 256]) * size for i in range(count)]
    rows = [(spool.session, spool.append(blob), blob) for blob in blobs]
    spool.flush(10.0)
    return rows


def test_rows_come_back_in_order_with_gapless_numbers(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db") as spool:
        rows = fill(spool, 300)
        assert [seq for _, seq, _ in rows] == list(range(1, 301))
        assert contents(spool) == rows
        assert (spool.depth, spool.depth_bytes) == (300, 300 * 50)


def test_read_is_bounded_in_rows_and_bytes_but_gives_at_least_one(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db") as spool:
        fill(spool, 10, size=1000)
        assert len(spool.read(0, 3, 1 << 20)) == 3
        assert len(spool.read(0, 100, 2500)) == 2
        assert len(spool.read(0, 100, 10)) == 1


def test_acknowledged_rows_leave_and_stay_away(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        rows = fill(spool, 100)
        _, released = spool.acknowledge(spool.session, 60)
        assert released == 60
        assert spool.acknowledge(spool.session, 10)[1] == 0  # an old answer takes nothing back
        assert spool.depth == 40
        assert contents(spool) == rows[60:]
        deadline = time.monotonic() + 5
        while spool.depth_bytes != 40 * 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert spool.depth_bytes == 40 * 50
    with Spool(path) as spool:
        assert contents(spool) == rows[60:]


def test_a_restarted_actor_finds_the_rows_of_its_dead_sessions(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    wanted = []
    for _ in range(3):
        with Spool(path) as spool:
            wanted += fill(spool, 5)
    with Spool(path) as spool:
        wanted += fill(spool, 2)
        assert len({session for session, _, _ in wanted}) == 4
        assert contents(spool) == wanted
        assert list(spool.first_retained().values()) == [1, 1, 1, 1]
        spool.acknowledge(wanted[0][0], 5)
        assert spool.depth == 12
        assert contents(spool) == wanted[5:]


def test_an_empty_dead_session_is_forgotten_and_its_number_never_used_again(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    sessions = set()
    for _ in range(3):
        with Spool(path, retain_bytes=0) as spool:
            sessions.add(spool.session)
            assert list(spool.first_retained()) == [spool.session]
            ids = fill(spool, 1)
            spool.acknowledge(*ids[0][:2])
    assert len(sessions) == 3
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT max(number) FROM sessions").fetchone() == (3,)
    db.close()


@pytest.mark.wallclock
def test_append_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """While another connection holds the file, rows gather in memory and nothing blocks."""
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        fill(spool, 1)
        other = apsw.Connection(str(path))  # the same SQLite: its locks are per process
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        for _ in range(1000):
            spool.append(b"x" * 300)
        assert time.monotonic() - start < 0.5
        with pytest.raises(StorageError, match=r"waited 0\.2 s"):
            spool.flush(0.2)
        other.execute("ROLLBACK")
        other.close()
        assert spool.flush(10.0) == 1001


def test_rows_that_wait_in_memory_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, max_pending_bytes=10_000) as spool:
        other = apsw.Connection(str(path))  # the same SQLite: its locks are per process
        other.execute("BEGIN IMMEDIATE")
        for _ in range(10):
            spool.append(b"x" * 1000)
        with pytest.raises(StorageError, match="too slow"):
            spool.append(b"x" * 1000)
        other.execute("ROLLBACK")
        other.close()
        assert spool.flush(10.0) == 10


def test_many_threads_may_append(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db") as spool:
        seqs: list[int] = []

        def work() -> None:
            seqs.extend([spool.append(b"x" * 20) for _ in range(500)])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spool.flush(10.0)
        assert sorted(seqs) == list(range(1, 2001))
        assert len(contents(spool)) == 2000


def test_commits_are_synced_and_in_a_write_ahead_log(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.db") as spool:
        writer = spool._file._db.writer
        assert writer.pragma("synchronous") == 2
        assert writer.pragma("journal_mode") == "wal"


def test_the_log_does_not_grow_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, retain_bytes=4 << 20) as spool:
        for _ in range(60):
            fill(spool, 10, size=100_000)
            spool.acknowledge(spool.session, spool.flush(10.0))
        size = sum(file.stat().st_size for file in tmp_path.iterdir())
        assert size < 40 << 20  # 60 MB went through


def test_a_second_owner_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path), pytest.raises(StorageError, match="in use by another process"):
        Spool(path)
    Spool(path).close()


def test_a_spool_of_another_task_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, task_hash="aaaa") as spool:
        fill(spool, 3)
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=r"aaaa.*bbbb"):
        Spool(path, task_hash="bbbb")
    assert path.read_bytes() == before
    with Spool(path, task_hash="aaaa") as spool:
        assert spool.depth == 3


def test_foreign_and_newer_files_are_refused_unchanged(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, " * 100)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE precious(x)")
    db.close()
    newer = tmp_path / "newer.db"
    Spool(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for path, error, words in (
        (text, StorageError, "not a SQLite file"),
        (foreign, StorageError, "application id"),
        (newer, RunFolderError, "format 99"),
        (tmp_path, StorageError, "can't open"),
        (tmp_path / "no" / "folder.db", StorageError, "can't open"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(error, match=words):
            Spool(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_damaged_file_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        fill(spool, 200, size=500)
    blob = bytearray(path.read_bytes())
    blob[4096:] = bytes(len(blob) - 4096)
    path.write_bytes(blob)
    with pytest.raises(StorageError):
        Spool(path)


def test_a_half_created_file_is_created_anew(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.touch()
    with Spool(path) as spool:
        fill(spool, 1)


def test_a_half_written_tail_costs_nothing_durable(tmp_path: Path) -> None:
    path, copy = tmp_path / "spool.db", tmp_path / "copy.db"
    with Spool(path) as spool:
        rows = fill(spool, 20)
        for name in ("", "-wal"):
            shutil.copy(f"{path}{name}", f"{copy}{name}")
    with open(f"{copy}-wal", "ab") as log:
        log.write(b"torn" * 300)
    with Spool(copy) as spool:
        assert contents(spool) == rows


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from handrail.errors import StorageError
from handrail.storage.spool import Spool
spool = Spool(Path(sys.argv[1]))
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limit[1]))
durable = 0
try:
    while True:
        spool.append(durable.to_bytes(4, "little") * 1000)
        durable = spool.flush(10.0)
except StorageError as error:
    print(durable, error, flush=True)
if sys.argv[2] == "room again":
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    time.sleep(1.5)
    spool.append((durable + 1).to_bytes(4, "little") * 1000)
    print(spool.flush(10.0), flush=True)
spool.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("then", ["give up", "room again"])
def test_a_full_disk_is_said_clearly_and_spoils_nothing(tmp_path: Path, then: str) -> None:
    path = tmp_path / "spool.db"
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(path), then],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()
    durable = int(out[0].split()[0])
    assert "disk full" in out[0]
    assert str(path) in out[0]
    assert durable > 10
    if then == "room again":
        durable = int(out[1])
    with Spool(path) as spool:
        rows = contents(spool)
        assert len(rows) >= durable
        assert [int.from_bytes(blob[:4], "little") for _, _, blob in rows] == list(range(len(rows)))


KILLED = """
import sys
from pathlib import Path
from handrail.storage.spool import Spool
spool = Spool(Path(sys.argv[1]))
while True:
    for _ in range(7):
        seq = spool.append(b"r" * 200)
    print(spool.flush(10.0), flush=True)
"""


def test_what_was_durable_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.kill()
    process.wait()
    durable = [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.stdout.close()
    with Spool(path) as spool:
        rows = contents(spool)
        assert len(rows) >= durable[-1]
        assert [seq for _, seq, _ in rows] == list(range(1, len(rows) + 1))
