"""Disks that are full, read-only, or about to be full; clocks that jump; files of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_rows import SPEC, make_episode

from handrail.errors import RunFolderError, StorageError
from handrail.link.transition_codec import encode_row
from handrail.storage.disk import DiskMonitor
from handrail.storage.spool import Spool
from learner.store.admin.verify import verify
from learner.store.store import Store

GB = 1_000_000_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.call(mount) != 0:
        pytest.skip("a disk can't be mounted here: RLIMIT_FSIZE stands in for it in test_store.py")
    try:
        yield place
    finally:
        subprocess.check_call(["umount", str(place)])


def test_a_full_disk_takes_what_the_spool_retains_first(small: Path) -> None:
    """Rows that the learner has are let go of, and acting goes on."""
    blob, last = os.urandom(100_000), 0
    with Spool(small / "spool.db") as spool:
        for _ in range(150):
            for _ in range(10):
                spool.append(blob)
            deadline = time.monotonic() + 20
            while True:
                try:
                    last = spool.flush(5.0)
                    break
                except StorageError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            spool.acknowledge(spool.session, last)
        assert spool.depth == 0
        assert last == 1500  # 150 MB went through a disk of 48
        assert spool._retained.bytes < 48 << 20


def test_a_disk_full_of_undelivered_rows_is_said_and_nothing_durable_is_lost(small: Path) -> None:
    blob = os.urandom(1_000_000)
    with Spool(small / "spool.db") as spool:
        durable, said = 0, ""
        while not said:
            try:
                spool.append(blob)
                durable = spool.flush(5.0)
            except StorageError as error:
                said = str(error)
        assert "disk full" in said or "disk error" in said
        assert str(small / "spool.db") in said
        assert durable > 10
    subprocess.check_call(["mount", "-o", "remount,size=64m", str(small)])  # somebody made room
    with Spool(small / "spool.db") as spool:
        rows, after = [], 0
        while found := spool.read(after, 100, 4 << 20):
            rows += found
            after = found[-1].id
        assert [row.seq for row in rows][:durable] == list(range(1, durable + 1))
        assert {row.blob for row in rows} == {blob}


def test_a_full_disk_of_the_store_acknowledges_nothing_and_goes_on_when_there_is_room(
    small: Path,
) -> None:
    ballast = small / "ballast"
    ballast.write_bytes(bytes(46 << 20))
    with Store(small / "store.db", SPEC) as store:
        stored, said = 0, ""
        while not said:
            try:
                store.put_rows("arm", make_episode(stored, 200))
                stored += 1
            except StorageError as error:
                said = str(error)
        assert "disk full" in said or "disk error" in said
        ballast.unlink()
        store.put_rows("arm", make_episode(stored, 200))
        assert [a.row.episode for a in store.labelled_rows() if a.row.end] == list(
            range(stored + 1)
        )
    assert verify(small / "store.db", SPEC).faults == []


def test_a_read_only_disk_is_said_and_can_still_be_read(small: Path) -> None:
    path = small / "store.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm", make_episode(0, 4))
    subprocess.check_call(["mount", "-o", "remount,ro", str(small)])
    try:
        for kind in (lambda: Store(path, SPEC), lambda: Spool(small / "spool.db")):
            with pytest.raises(StorageError, match=r"(?i)read-only"):
                kind()
        assert verify(path, SPEC).rows == 5
    finally:
        subprocess.check_call(["mount", "-o", "remount,rw", str(small)])


def test_half_a_file_a_foreign_file_and_a_newer_one_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        for number in range(40):
            store.put_rows("arm", make_episode(number, 4))
    whole = path.read_bytes()
    (tmp_path / "spool").mkdir()
    Spool(tmp_path / "spool" / "spool.db").close()
    newer = bytearray(whole)
    newer[60:64] = (99).to_bytes(4, "big")
    for bad, error, words in (
        (whole[: len(whole) // 2], StorageError, "damaged"),
        (b"PK\3\4" + whole[4:], StorageError, "not a SQLite file"),
        ((tmp_path / "spool" / "spool.db").read_bytes(), StorageError, "application id"),
        (bytes(newer), RunFolderError, "format 99"),
    ):
        path.write_bytes(bad)
        faults = verify(path, SPEC).faults
        assert faults
        if error is RunFolderError or words != "damaged":
            with pytest.raises(error, match=words):
                Store(path, SPEC)
            assert words in faults[0]
        assert path.read_bytes() == bad


CLOCKS = """
import sys, time
from pathlib import Path
real, jumps = time.time, iter([0.0, -1e8, 1e8, -2e9, 3e9] * 1000)
time.time = lambda: real() + next(jumps)
import learner.store.store
learner.store.store.MARK_S = 0.0  # every batch is marked with a time that jumps
from made_rows import SPEC, make_episode
with learner.store.store.Store(Path(sys.argv[1]), SPEC) as store:
    for number in range(20):
        store.put_rows("arm", make_episode(number, 4))
"""


def test_clock_jumps_change_no_order(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    tests = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "kit")}
    subprocess.check_call([sys.executable, "-c", CLOCKS, str(path)], env=tests)
    with Store(path, SPEC) as store:
        rows = [(row.episode, row.t) for _, row in store.rows()]
        assert len(store.marks()) == 20
    assert rows == [(number, t) for number in range(20) for t in range(5)]
    assert verify(path, SPEC).faults == []


def test_the_alarm_comes_hours_before_the_disk_is_full() -> None:
    watch = DiskMonitor(Path("/"))
    rate, size = 1_000_000.0, 100 * GB  # 1 MB/s: 86.4 GB a day
    said = []
    for second in range(0, 99_500, 10):
        disk, alarm = watch.evaluate(float(second), int(size - rate * second), size)
        if alarm:
            said.append((disk.hours, alarm))
    hours = [round(hour, 1) for hour, _ in said]
    assert hours == [24.0, 4.0, 1.0]
    assert "24.0 h at the measured 1.00 MB/s" in said[0][1]


def test_a_disk_that_does_not_fill_raises_no_alarm_and_one_that_was_freed_raises_it_again() -> None:
    watch = DiskMonitor(Path("/"))
    assert not any(watch.evaluate(float(s), 50 * GB, 100 * GB)[1] for s in range(0, 10_000, 10))
    assert watch.evaluate(10_000.0, 4 * GB, 100 * GB)[1]
    assert not watch.evaluate(10_001.0, 4 * GB - 1000, 100 * GB)[1]
    assert not watch.evaluate(20_000.0, 60 * GB, 100 * GB)[1]
    assert watch.evaluate(40_000.0, 4 * GB, 100 * GB)[1]
    assert DiskMonitor(Path("/")).sample()[0].free > 0


def test_a_spool_of_the_first_format_is_read_and_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    blob = encode_row(make_episode(0, 4)[0], SPEC)
    with Spool(path) as spool:
        for _ in range(3):
            spool.append(blob)
        spool.flush(10.0)
        spool._file._db.writer.execute(
            "ALTER TABLE sessions DROP COLUMN acked; PRAGMA user_version = 1"
        )
    with Spool(path) as spool:
        assert spool.depth == 3
        assert [row.blob for row in spool.read(0, 10, 1 << 20)] == [blob] * 3
