"""The file of a store: its tables, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from handrail.link.transition_codec import row_bytes
from handrail.spec import EnvSpec
from handrail.storage.database import Database, page_bytes

_APPLICATION_ID = 0x48525354  # "HRST"
_VERSION = 3  # 2: gaps and marks; 3: compressed rows, which an older Handrail would call damaged
_ADDED = """
CREATE TABLE gaps(session INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                  why TEXT NOT NULL, PRIMARY KEY(session, first)) WITHOUT ROWID;
CREATE TABLE marks(cursor INTEGER PRIMARY KEY, time REAL NOT NULL);
"""
_SCHEMA = f"""
CREATE TABLE sessions(number INTEGER PRIMARY KEY, uuid TEXT UNIQUE, actor TEXT);
CREATE TABLE rows(cursor INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL,
                  source INTEGER NOT NULL, blob BLOB NOT NULL, UNIQUE(session, seq));
CREATE TABLE counts(source INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
{_ADDED}
"""
_UPGRADES = {1: _ADDED, 2: ""}
LABEL = 255  # the source of a label, beside those of rows


def open_file(path: Path, spec: EnvSpec, readonly: bool) -> Database:
    """Open or create the file of a store; arguments and errors as of `Store`."""
    return Database(
        path,
        "store",
        _APPLICATION_ID,
        _VERSION,
        _SCHEMA,
        spec.task_hash,
        readonly,
        _UPGRADES,
        page=page_bytes(row_bytes(spec)),
    )
