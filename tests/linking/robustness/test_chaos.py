"""Kills, cuts and harmed messages cost no row; and the audit that says so can fail."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import apsw
import chaos
import pytest
from chaos_audit import Found, audit, audit_folder
from chaos_ends import BURST, SPEC, Entry, Journal, read_journal, rows_of
from chaos_proxies import HARM, Copy, harm

from handrail.link.transition_codec import encode_row
from learner.store.store import Incoming, Store

LONG_KILLS = int(os.environ.get("HANDRAIL_KILLS", "50"))
KILLS = 10
LIVES = (7, 8)
ROWS = 100


def check(summary: dict) -> None:
    assert summary["faults"] == []
    assert chaos.verdict(summary) == 0
    assert 0 <= summary["stored"] - summary["transitions"] <= BURST * summary["kills"]["actor"]
    # Only what was harmed on its way is refused: of kills and cuts alone, nothing is.
    assert summary["refused_by_learner"] <= summary["truncations"] + summary["flips"]


@pytest.mark.slow
def test_ten_kills_and_harm_on_the_way_cost_no_row(tmp_path: Path) -> None:
    plan = chaos.Plan(transitions=3000, kills=KILLS, seed=0, rate=400.0)
    summary = chaos.run(tmp_path, plan, say=False)
    check(summary)
    assert summary["transitions"] >= 3000
    assert summary["kills"] == {"actor": 5, "learner": 5, "proxy": 3}
    assert summary["stores_replaced"] == 1
    assert summary["refilled"] > 0
    assert summary["cuts"] + summary["half_open"] > 0
    assert sum(summary[what] for what in ("duplicates", "reorderings", "dropped")) > 5


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_kills_and_harm_on_the_way_cost_no_row(tmp_path: Path, seed: int) -> None:
    plan = chaos.Plan(500 * LONG_KILLS, LONG_KILLS, seed, rate=400.0)
    check(chaos.run(tmp_path, plan))


def fill(folder: Path) -> None:
    """Store what two actors made, with their journals."""
    with Store(folder / "store.db", SPEC) as store:
        for life in LIVES:
            session = f"{life:036d}"
            store.open_sessions([session], f"arm-{life}")
            made = list(enumerate(islice(rows_of(life), ROWS), 1))
            blobs = [(seq, encode_row(row, SPEC)) for seq, row in made]
            store.put(
                [
                    Incoming(session, seq, blob, row)
                    for (seq, blob), (_, row) in zip(blobs, made, strict=True)
                ]
            )
            Journal(folder / f"arm-{life}.journal", session).write(blobs[: ROWS - 5])


def pieces(folder: Path) -> tuple[list[Entry], list[Found]]:
    fill(folder)
    journal = [e for path in sorted(folder.glob("*.journal")) for e in read_journal(path)]
    with Store(folder / "store.db", SPEC) as store:
        digests, records = list(store.digests()), list(store.records())
    return journal, [
        Found(*key, record.row)  # type: ignore[arg-type]
        for key, record in zip(digests, records, strict=True)
    ]


def test_a_store_that_is_whole_passes(tmp_path: Path) -> None:
    found = audit(*pieces(tmp_path))
    assert found.faults == []
    assert found[:7] == (2 * (ROWS - 5), 2 * ROWS, 0, 0, 0, 0, 2)


def without(rows: list[Found], index: int) -> list[Found]:
    return rows[:index] + rows[index + 1 :]


def swapped(rows: list[Found], index: int) -> list[Found]:
    """Exchange the contents of two neighbours."""
    one, two = rows[index : index + 2]
    new = [one._replace(digest=two.digest), two._replace(digest=one.digest)]
    return rows[:index] + new + rows[index + 2 :]


DAMAGE = {
    "a row is missing": (lambda rows: without(rows, 40), {"lost": 1}),
    "the last journaled row is missing, with all behind it": (
        lambda rows: rows[: ROWS - 6] + rows[ROWS:],
        {"lost": 1},
    ),
    "all rows of a session are missing": (lambda rows: rows[ROWS:], {"lost": ROWS - 5}),
    "a hole in the tail that is not journaled": (lambda rows: without(rows, ROWS - 3), {"lost": 1}),
    "a row is there twice": (lambda rows: [*rows[:41], *rows[40:]], {"doubled": 1, "changed": 0}),
    "a row is there under another number, too": (
        lambda rows: [*rows, rows[40]._replace(session=rows[-1].session, seq=ROWS + 1)],
        {"doubled": 1, "changed": 1},
    ),
    "a row was changed": (
        lambda rows: [*rows[:40], rows[40]._replace(digest="0" * 64), *rows[41:]],
        {"changed": 1, "lost": 0},
    ),
    "a row of the tail was changed": (
        lambda rows: [*rows[:98], rows[98]._replace(digest="0" * 64), *rows[99:]],
        {"changed": 1},
    ),
    "neighbours changed places": (lambda rows: swapped(rows, 40), {"changed": 2, "lost": 0}),
    "rows came in another order": (
        lambda rows: [*rows[:40], rows[41], rows[40], *rows[42:]],
        {"changed": 1},
    ),
    "a row that nobody made": (
        lambda rows: [*rows, rows[-1]._replace(seq=ROWS + BURST)],
        {"foreign": 1},
    ),
    "a session that nobody has": (
        lambda rows: [*rows, *(row._replace(session="x" * 36) for row in rows[:ROWS])],
        {"foreign": ROWS - BURST, "doubled": ROWS},
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_store_that_is_not_whole_fails(tmp_path: Path, name: str) -> None:
    damage, wanted = DAMAGE[name]
    journal, rows = pieces(tmp_path)
    found = audit(journal, damage(rows))
    assert {what: getattr(found, what) for what in wanted} == wanted
    assert found.faults


def test_a_journal_whose_chain_is_broken_fails(tmp_path: Path) -> None:
    journal, rows = pieces(tmp_path)
    last = ROWS - 6
    broken = journal[last]._replace(chain="0" * 64)
    found = audit([*journal[:last], broken, *journal[last + 1 :]], rows)
    assert (found.changed, len(found.faults)) == (1, 1)


@pytest.mark.parametrize(
    ("statement", "what", "count"),
    [
        ("SELECT 1", "lost", 0),
        ("DELETE FROM rows WHERE cursor = 30", "lost", 1),
        ("UPDATE rows SET blob = (SELECT blob FROM rows WHERE cursor = 31) WHERE cursor = 30",
         "changed", 1),
    ],
)  # fmt: skip
def test_the_command_says_by_its_exit_code_what_a_file_holds(
    tmp_path: Path, statement: str, what: str, count: int
) -> None:
    fill(tmp_path)
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.execute(statement)
    connection.close()
    assert getattr(audit_folder(tmp_path), what) == count
    command = [sys.executable, chaos.__file__, "--audit", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == bool(count), done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[what] == count


def test_half_a_line_of_the_journal_is_no_row(tmp_path: Path) -> None:
    """As a kill leaves it; the next session's lines are whole again."""
    path = tmp_path / "arm.journal"
    for session in ("a" * 36, "b" * 36):
        Journal(path, session).write([(1, b"one"), (2, b"two")])
        if session[0] == "a":
            whole = path.read_bytes()
            path.write_bytes(whole[:-30])
            assert len(read_journal(path)) == 1
    assert [(e.session[0], e.seq) for e in read_journal(path)] == [("a", 1), ("b", 1), ("b", 2)]


def test_messages_are_harmed_as_it_is_said(tmp_path: Path) -> None:
    frames, seen = [b"head" * 5, b"body" * 50], set()
    rng = random.Random(0)
    for _ in range(3000):
        what, copies = harm(rng, frames)
        seen.add(what)
        sent = [copy.frames for copy in copies]
        late = [copy.after for copy in copies]
        if what == "":
            assert copies == [Copy(0.0, frames)]
        elif what == "drop":
            assert copies == []
        elif what == "duplicate":
            assert sent == [frames] * 2
        elif what == "reorder":
            assert sent == [frames]
            assert late[0] > 0
        else:
            assert late == [0.0]
            size = sum(map(len, sent[0]))
            assert (size == 220) if what == "flip" else (size <= 220)
    assert seen == {"", *HARM}
    again = [[harm(rng, frames) for _ in range(100)] for rng in map(random.Random, (5, 5))]
    assert again[0] == again[1]


def test_kills_are_shared_out() -> None:
    plan = chaos.Plan(1, 200, 3, 1.0)
    found = chaos.victims(plan)
    assert found == chaos.victims(plan)
    assert found != chaos.victims(plan._replace(seed=4))
    counts = {role: found.count(role) for role in sorted(set(found))}
    assert counts == {
        "arm-bytes": 50, "arm-messages": 50, "bytes": 25, "learner": 100, "messages": 25
    }  # fmt: skip
