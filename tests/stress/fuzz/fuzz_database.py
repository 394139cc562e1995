"""Stores and spools whose files were changed on the disk: header, pages, cells, log, or swapped."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from random import Random
from typing import Any

import apsw
from fuzz_messages import SPEC, make_row
from fuzz_mutate import FLOATS, INTEGERS, TEXTS, Parts, damage
from fuzz_target import Files, hold

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import RunFolderError, StorageError
from handrail.link.label_codec import encode_label
from handrail.link.transition_codec import encode_row
from handrail.spec import EnvSpec
from handrail.storage.spool import Spool
from handrail.storage.spool_file import read_last_store
from handrail.transition import Transition
from learner.store.store import Store

SMALL = EnvSpec("fuzz", SPEC.task_hash, 10.0, 50, SPEC.slices, SPEC.action)
_PAGE = 4096  # [B]
_HEADER = (16, 18, 19, 20, 21, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 92, 96)
_PAGE_FIELDS = (0, 1, 3, 5, 7, 8, 10, 12, 14, 16)


class Database(Files):
    """Files of SQLite and their logs."""

    refusals = (StorageError, RunFolderError)
    tables: tuple[str, ...] = ()

    def make(self, rng: Random) -> Parts:
        data, log = rng.choice(self.originals)
        chance = rng.random()
        if chance < 0.35:
            return self._edited(data, rng), b""
        if chance < 0.5 and log:
            return data, damage(log, rng, [log], range(0, len(log), 24))
        if chance < 0.6:  # the log of another file, or none
            return data, rng.choice(self.originals)[1]
        if chance < 0.75:
            return self._pages(data, rng), log
        pages = len(data) // _PAGE
        hot = [*_HEADER, *(100 + at for at in _PAGE_FIELDS)]
        hot += [_PAGE * page + at for page in range(1, pages) for at in _PAGE_FIELDS]
        found = damage(data, rng, [o[0] for o in self.originals], hot)
        return found, log if rng.random() < 0.5 else b""

    def _pages(self, data: bytes, rng: Random) -> bytes:
        """Return a file with a page that is another one, empty, or missing."""
        pages = [data[at : at + _PAGE] for at in range(0, len(data), _PAGE)]
        a, b = rng.randrange(len(pages)), rng.randrange(len(pages))
        change = rng.randrange(4)
        if change == 0:
            pages[a], pages[b] = pages[b], pages[a]
        elif change == 1:
            pages[a] = pages[b]
        elif change == 2:
            pages[a] = bytes(_PAGE)
        else:
            del pages[a]
        return b"".join(pages)

    def _edited(self, data: bytes, rng: Random) -> bytes:
        """Return a file in which somebody has changed a cell, or dropped a table."""
        path = self.folder / "edited.db"
        path.write_bytes(data)
        table = rng.choice(self.tables)
        value = rng.choice([*INTEGERS, *FLOATS, *TEXTS, None, b"", b"\xff\x00", rng.randbytes(90)])
        if isinstance(value, int):
            value = max(-(2**63), min(2**63 - 1, value))
        with contextlib.closing(apsw.Connection(str(path))) as db, contextlib.suppress(apsw.Error):
            db.pragma("journal_mode", "delete")
            db.pragma("ignore_check_constraints", True)
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            chance = rng.random()
            column = rng.choice(columns)
            if chance < 0.05:
                db.execute(f"DROP TABLE {table}")
            elif chance < 0.15:
                db.execute(
                    f"DELETE FROM {table} WHERE {column} = (SELECT min({column}) FROM {table})"
                )
            elif chance < 0.25 and table == "gaps":
                first = rng.randrange(60)
                values = (rng.choice((1, 2, 9)), first, first + rng.choice((-5, -1, 0, 3)), "lost")
                db.execute("INSERT INTO gaps VALUES(?, ?, ?, ?)", values)
            else:
                which = f"(SELECT {column} FROM {table} ORDER BY random() LIMIT 1)"
                db.execute(
                    f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {column} = {which}", (value,)
                )
        return path.read_bytes()

    def passed(self, parts: Parts) -> bool:
        return (
            parts[0][:16] == b"SQLite format 3\0" and parts[0][68:72] == self.originals[0][0][68:72]
        )

    def write(self, parts: Parts) -> None:
        for path in self.folder.glob(f"{self.paths[0]}*"):
            path.unlink()
        super().write(parts)

    def keep(self, path: Path) -> None:
        """Add a database, as it is on the disk now, to the originals."""
        log = path.with_name(path.name + "-wal")
        self.originals.append((path.read_bytes(), log.read_bytes() if log.exists() else b""))


class StoreFile(Database):
    """Stores: read, listed, and written to."""

    name, share = "store file", 80
    paths = ("store.db", "store.db-wal")
    tables = ("meta", "sessions", "rows", "counts", "gaps", "marks")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = Random(3)
        rows = [make_row(rng, t, SMALL) for t in range(24)]
        label = EpisodeLabel("arm", rows[3].episode, Outcome.SUCCESS)
        path = folder / self.paths[0]
        with Store(path, SMALL) as store:
            store.put_rows("arm", rows[:8])
            store.put_label("person", label)
            store.put_rows("other", rows[8:14])
        self.keep(path)
        with Store(path, SMALL) as store:
            store.put_rows("arm", rows[14:])
            self.keep(path)
        self.known = {encode_row(row, SMALL) for row in rows} | {encode_label(label)}
        self.more = make_row(rng, 99, SMALL)
        self.known.add(encode_row(self.more, SMALL))

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        found = []
        path = self.folder / self.paths[0]
        for readonly in (True, False):
            with Store(path, SMALL, readonly=readonly) as store:
                found.append(list(store.records()))
                for head in store.headers():
                    store.last_durable(head.session)
                list(store.rows())
                store.marks()
                if not readonly:
                    store.put_rows("more", [self.more])
                    found.append(list(store.records(store.cursor - 1)))
        return found

    def verify(self, parts: Parts, value: Any) -> None:
        for records in value:
            cursors = [stored.cursor for stored in records]
            hold(cursors == sorted(set(cursors)), f"cursors {cursors}")
            for stored in records:
                row = stored.row
                blob = encode_row(row, SMALL) if isinstance(row, Transition) else encode_label(row)
                hold(blob in self.known, f"row {stored.cursor} is none that was stored")
        hold(value[2][-1].row.t == 99, "what was stored after it was opened isn't there")


class SpoolFile(Database):
    """Spools: opened, sent from, acknowledged, and appended to."""

    name, share = "spool file", 80
    paths = ("spool.db", "spool.db-wal")
    tables = ("meta", "sessions", "rows")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = Random(4)
        self.blobs = [encode_row(make_row(rng, t, SMALL), SMALL) for t in range(30)]
        path = folder / self.paths[0]
        for blobs in (self.blobs[:15], self.blobs[15:29]):
            with Spool(path, retain_bytes=1 << 20) as spool:
                for blob in blobs:
                    spool.append(blob)
                spool.flush(10.0)
                spool.acknowledge(spool.session, 4)
                spool.set_last_store("b" * 36, 3)
                self.keep(path)
        self.keep(path)
        self.died: list[Any] = []
        self.hook, threading.excepthook = threading.excepthook, self.died.append

    def take(self, parts: Parts) -> Any:
        self.write(parts)
        path = self.folder / self.paths[0]
        read_last_store(path)
        try:
            with Spool(path, retain_bytes=1 << 12) as spool:
                rows = spool.read(0, 1000, 1 << 20)
                for session in list(spool.first_retained()):
                    spool.resend_from(session, 2)
                    spool.acknowledge(session, 3)
                rows += spool.read(0, 1000, 1 << 20)
                spool.append(self.blobs[29])
                spool.flush(1.0)
                last = rows
                while more := spool.read(last[-1].id if last else 0, 1000, 1 << 20):
                    last = more
        finally:
            if self.died:
                raise RuntimeError("the spool's thread died") from self.died.pop().exc_value
        return rows, last

    def verify(self, parts: Parts, value: Any) -> None:
        rows, last = value
        for row in [*rows, *last]:
            hold(isinstance(row.blob, bytes) and row.seq > 0, f"row {row.id} of {type(row.blob)}")
        hold(bool(last) and last[-1].blob == self.blobs[29], "what was appended isn't there")

    def close(self) -> None:
        threading.excepthook = self.hook


TARGETS = (StoreFile, SpoolFile)
