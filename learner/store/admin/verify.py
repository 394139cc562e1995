"""Is a store whole? Every row's checksum, every session's numbers, the file's own structure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import apsw

from handrail.episode_label import EpisodeLabel
from handrail.errors import RunFolderError, StorageError
from handrail.spec import EnvSpec
from learner.store.admin.scan import scan
from learner.store.file import LABEL, open_file

_MOST = 50  # [-], faults of one kind that are spelled out


class StoreCheck(NamedTuple):
    """What `verify` found."""

    rows: int  # whole ones
    labels: int
    sessions: int
    pruned: int  # [rows], taken out on purpose
    faults: list[str]  # what is wrong, one line each; empty: all is well


def verify(path: Path, spec: EnvSpec) -> StoreCheck:
    """Check a store, beside the learner if it runs, and change nothing.

    Args:
        path: Of the store.
        spec: What rows must fit.
    """
    try:
        database = open_file(path, spec, readonly=True)
    except (StorageError, RunFolderError) as error:
        return StoreCheck(0, 0, 0, 0, [str(error)])
    try:
        connection = database.reader
        connection.execute("BEGIN")  # one moment, while the learner goes on
        faults = _structure(connection)
        seqs: dict[int, list[int]] = defaultdict(list)
        found: Counter[int] = Counter()
        for row in scan(connection, spec, path):
            if row.row is None:
                faults.append(row.fault)
                continue
            seqs[row.session].append(row.seq)
            source = LABEL if isinstance(row.row, EpisodeLabel) else int(row.row.source)
            found[source] += 1
            if source != row.source:
                faults.append(f"row {row.cursor} is listed as of source {row.source}, is {source}")
        try:
            pruned = _continuity(connection, database.format, seqs, faults)
            counted = dict(database.select("SELECT source, rows FROM counts"))
            if {k: v for k, v in counted.items() if v} != dict(found):
                faults.append(f"the counts by source say {counted}, the rows are {dict(found)}")
        except apsw.Error as error:
            faults.append(f"tables beside the rows can't be read: {error}")
            pruned = 0
        labels = found[LABEL]
        return StoreCheck(sum(found.values()) - labels, labels, len(seqs), pruned, faults)
    except (apsw.Error, StorageError) as error:
        return StoreCheck(0, 0, 0, 0, [f"store {path} can't be read: {error}"])
    finally:
        database.close()


def _structure(connection: apsw.Connection) -> list[str]:
    try:
        lines = connection.execute(f"PRAGMA integrity_check({_MOST})").fetchall()
    except apsw.Error as error:
        return [f"the file's structure is damaged: {error}"]
    return [f"the file's structure is damaged: {line}" for (line,) in lines if line != "ok"]


def _continuity(
    connection: apsw.Connection, format_: int, seqs: dict[int, list[int]], faults: list[str]
) -> int:
    """Note what is amiss with the sessions' numbers; return how many rows were pruned."""
    names = {
        number: f"session {name} of {actor!r}"
        for number, name, actor in connection.execute("SELECT number, uuid, actor FROM sessions")
    }
    gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)
    pruned = 0
    query = "SELECT session, first, last, why FROM gaps" if format_ > 1 else "SELECT 1 WHERE 0"
    for session, first, last, why in connection.execute(query):
        gaps[session].append((first, last))
        if why == "pruned":
            pruned += last + 1 - first
        else:
            faults.append(
                f"{names.get(session, session)}: rows {first} to {last} are lost for good"
            )
    for session in sorted({*seqs, *gaps}):
        if session not in names:
            faults.append(f"rows of session number {session}, which is not known")
        covered = [(seq, seq) for seq in seqs[session]] + gaps[session]
        for what, first, last in find_gaps(covered):
            faults.append(f"{names.get(session, session)}: rows {first} to {last} are {what}")
    return pruned


def find_gaps(covered: Iterable[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Return what is "missing" or "there twice" among ranges that should cover 1, 2, 3 … once."""
    due, found = 1, []
    for first, last in sorted(covered):
        if first > due:
            found.append(("missing", due, first - 1))
        elif first < due:
            found.append(("there twice", first, min(last, due - 1)))
        due = max(due, last + 1)
    return found
