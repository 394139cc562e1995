"""Does a store hold each row of the journals exactly once, to the bit? And nothing else?"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from chaos_ends import BURST, Entry, life_of, link, read_journal, rows_of
from made_link import SPEC

from handrail.link.transition_codec import encode_row
from handrail.transition import Transition
from learner.store.store import Store


class Found(NamedTuple):
    """One row as the store has it, in order of arrival."""

    session: str
    seq: int
    digest: str  # sha256, in hex
    row: Transition


class Audit(NamedTuple):
    """What came of the comparison; all is well if `faults` is empty."""

    transitions: int  # in the journals
    stored: int
    lost: int  # [rows], journaled or before one that is there, and not stored
    doubled: int  # [rows], stored more than once, under whatever number
    changed: int  # [rows], other than journaled or made
    foreign: int  # [rows], stored, and nobody can have made them
    sessions: int
    cut_episodes: int  # whose actor was killed in the midst of them
    faults: list[str]  # one line each


def audit(journal: Iterable[Entry], found: Iterable[Found]) -> Audit:
    """Compare what actors called durable with what a store holds.

    Rows that were durable when the actor was killed, and not journaled yet, may be there on top:
    the tail of their session, one burst at most. They, too, are what an actor of that life makes.

    Args:
        journal: In order, of all actors.
        found: In order of arrival.
    """
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in journal:
        entries[entry.session].append(entry)
    stored: dict[str, list[Found]] = defaultdict(list)
    for row in found:
        stored[row.session].append(row)
    faults: list[str] = []
    total: Counter[str] = Counter()
    for session in sorted({*entries, *stored}):
        for what, text in _judge(entries[session], stored[session]):
            total[what] += 1
            faults.append(f"session {session}: {text}")
    contents = Counter(row.digest for rows in stored.values() for row in rows)
    # The same number twice is noted above; the same content under two numbers is here.
    numbers = Counter((r.session, r.seq) for rows in stored.values() for r in rows)
    twice = contents.total() - len(contents) - (numbers.total() - len(numbers))
    if twice > 0:
        total["doubled"] += twice
        faults.append(f"{twice} rows are stored under more than one number")
    cuts = sum(not rows[-1].row.end for rows in stored.values() if rows)
    return Audit(
        sum(map(len, entries.values())),
        sum(map(len, stored.values())),
        total["lost"],
        total["doubled"],
        total["changed"],
        total["foreign"],
        len(stored),
        cuts,
        faults,
    )


def _judge(entries: list[Entry], rows: list[Found]) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with one session, a kind and a text for each row."""
    before = 0
    times = Counter(row.seq for row in rows)
    for row in rows:
        if row.seq < before:
            yield "changed", f"row {row.seq} arrived behind row {before}"
        before = row.seq
    for seq, count in times.items():
        for _ in range(count - 1):
            yield "doubled", f"row {seq} is there {count} times"
    last = max([*times, *(entry.seq for entry in entries)], default=0)
    for seq in range(1, last + 1):
        if seq not in times:
            yield "lost", f"row {seq} is missing"
    journaled = entries[-1].seq if entries else 0
    for seq in times:
        if not 1 <= seq <= journaled + BURST:
            yield "foreign", f"row {seq} is there, the journal ends at {journaled}"
    by_seq = {row.seq: row for row in rows}
    wrong = {e.seq for e in entries if e.seq in by_seq and by_seq[e.seq].digest != e.digest}
    made = rows_of(life_of(rows[0].row)) if rows else iter(())
    for seq, row in enumerate(islice(made, max(times, default=0)), 1):
        if seq in by_seq and by_seq[seq].digest != _digest(row):
            wrong.add(seq)
    for seq in sorted(wrong):
        yield "changed", f"row {seq} is not what was made"
    chain = ""
    for entry in entries:
        chain = link(chain, by_seq[entry.seq].digest if entry.seq in by_seq else "")
    if entries and chain != entries[-1].chain and not wrong and journaled <= len(times):
        yield "changed", "the chain of hashes is not the journal's"


def _digest(row: Transition) -> str:
    return hashlib.sha256(encode_row(row, SPEC)).hexdigest()


def audit_folder(folder: Path) -> Audit:
    """Compare the journals and the store in a folder of a run."""
    journal = [entry for path in sorted(folder.glob("*.journal")) for entry in read_journal(path)]
    with Store(folder / "store.db", SPEC) as store:
        found = [
            Found(session, seq, digest, record.row)
            for (session, seq, digest), record in zip(store.digests(), store.records(), strict=True)
            if isinstance(record.row, Transition)
        ]
    return audit(journal, found)
