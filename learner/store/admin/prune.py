"""Take episodes out of a store on purpose, so that nobody takes them for lost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from handrail.spec import EnvSpec
from handrail.storage.database import translate_errors
from learner.store.admin.episodes import StoredEpisode, episodes
from learner.store.file import open_file
from learner.store.store import MARK_S, Store


class EpisodeFilter(NamedTuple):
    """Which episodes go: those that meet every condition that is given."""

    sources: Collection[int] = ()  # of `Source`; empty: all
    numbers: Collection[int] = ()  # of episodes; empty: all
    actors: Collection[str] = ()  # empty: all
    older_s: float = 0.0  # [s], since its last row arrived, by the wall clock


class PruneResult(NamedTuple):
    """What goes, or went."""

    episodes: list[StoredEpisode]
    rows: int


def plan(path: Path, spec: EnvSpec, choice: EpisodeFilter, now: float | None = None) -> PruneResult:
    """Return what `prune` would take out; change nothing.

    Args:
        path: Of the store.
        spec: What its rows fit.
        choice: Which episodes.
        now: Wall clock, that of this moment if None [s].
    """
    now = time.time() if now is None else now
    with Store(path, spec, readonly=True) as store:
        found = [e for e in episodes(store) if _meets(e, choice)]
        if choice.older_s > 0:
            marks = store.marks()
            found = [e for e in found if now - _arrived(marks, e.last) > choice.older_s]
    return PruneResult(found, sum(len(episode.seqs) for episode in found))


def prune(path: Path, spec: EnvSpec, choice: EpisodeFilter, shrink: bool = False) -> PruneResult:
    """Take episodes out of a store, in one transaction; no learner may use it.

    Args:
        path: Of the store.
        spec: What its rows fit.
        choice: Which episodes.
        shrink: Also make the file smaller, which needs as much free space again; without it the
            space is used by the rows to come.

    Raises:
        StorageError: In use, damaged, or the disk refused; then nothing was taken out.
    """
    Store(path, spec).close()  # in the newest format, and in nobody's use
    going = plan(path, spec, choice)
    database = open_file(path, spec, readonly=False)
    try:
        numbers = dict(database.select("SELECT uuid, number FROM sessions"))
        with translate_errors(path, "pruning store"), database.transaction():
            write = database.writer.executemany
            ((cursor,),) = database.select("SELECT max(cursor) FROM rows")
            before = int(database.meta.get("cursor", "0"))
            cursor = str(max(cursor or 0, before))
            write("INSERT OR REPLACE INTO meta VALUES('cursor', ?)", [(cursor,)])
            removed: Counter[int] = Counter()
            for episode in going.episodes:
                session = numbers[episode.session]
                for first, last in ranges(episode.seqs):
                    write(
                        "DELETE FROM rows WHERE session = ? AND seq BETWEEN ? AND ?",
                        [(session, first, last)],
                    )
                    write("INSERT INTO gaps VALUES(?, ?, ?, 'pruned')", [(session, first, last)])
                removed[episode.source] += len(episode.seqs)
            write(
                "UPDATE counts SET rows = rows - ?2 WHERE source = ?1",
                list(removed.items()),
            )
        if shrink:
            with translate_errors(path, "shrinking store"):
                database.writer.execute("VACUUM")
    finally:
        database.close()
    return going


def ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each unbroken run of rising numbers."""
    first = last = -1
    for number in sorted(numbers):
        if number != last + 1:
            if first >= 0:
                yield first, last
            first = number
        last = number
    if first >= 0:
        yield first, last


def _meets(episode: StoredEpisode, choice: EpisodeFilter) -> bool:
    return (
        (not choice.sources or episode.source in choice.sources)
        and (not choice.numbers or episode.number in choice.numbers)
        and (not choice.actors or episode.actor in choice.actors)
    )


def _arrived(marks: list[tuple[int, float]], cursor: int) -> float:
    """Return by when a row had arrived [s]; never where that isn't known.

    A mark is made with the first rows of a process and then once a minute.
    """
    before = [wall for first, wall in marks if first <= cursor]
    if before:
        return before[-1] + MARK_S
    return marks[0][1] if marks else math.inf
