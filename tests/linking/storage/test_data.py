"""What an operator does with a run's rows: `handrail data`, on real files and live learners."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.__main__ import main
from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import StorageError
from handrail.link.label_codec import encode_label
from handrail.link.receiver import StreamReceiver
from handrail.link.record_codec import decode_record
from handrail.run_folder import Run, create_run
from handrail.spec import dump_spec
from handrail.transition import Source
from learner.store.admin.backup import backup
from learner.store.admin.label import AUTHOR, store_waiting_labels
from learner.store.admin.prune import EpisodeFilter, plan, prune
from learner.store.admin.verify import find_gaps, verify
from learner.store.store import Store

ACTOR = "arm"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run folder with three training episodes, a demonstration and an evaluation, 5 rows each."""
    run = create_run(tmp_path / "run", SPEC.task, SPEC.hash, "")
    run.spec.write_text(dump_spec(SPEC), encoding="utf-8")
    with Store(run.store, SPEC) as store:
        store.put_rows(ACTOR, make_episode(0, 4, Source.DEMO))
        for number in (1, 2, 3):
            store.put_rows(ACTOR, make_episode(number, 4, success=number == 2))
        store.put_rows(ACTOR, make_episode(1, 4, Source.EVAL))
    return run


def call(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, object]:
    """Run `handrail data … --json`, and return what it says."""
    assert main(["data", *map(str, words), "--json"]) == code
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]) if lines else {}


def spoil(path: Path, marker: bytes, offset: int = 0) -> None:
    """Flip a bit of the file where `marker` is."""
    data = bytearray(path.read_bytes())
    data[data.index(marker) + offset] ^= 1
    path.write_bytes(data)


def outcomes(run: Run) -> dict[int, tuple[float, bool]]:
    """Reward and success of the last step of each training episode."""
    with Store(run.store, SPEC, readonly=True) as store:
        rows = [row for _, row in store.rows() if row.source == Source.ONLINE and row.t == 3]
    return {row.episode: (row.reward, row.success) for row in rows}


def test_ls_and_show_say_what_is_there(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "ls", str(run.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines[1:-1]] == [
        ["demo", "0"],
        *(["online", n] for n in "123"),
        ["eval", "1"],
    ]
    assert [line.split()[-1] for line in lines[2:5]] == ["failure", "success", "failure"]
    about = call(capsys, "ls", run.folder)
    assert (about["episodes"], about["rows"], about["online"]) == (5, 25, 15)
    shown = call(capsys, "show", run.folder, 2)
    assert (shown["steps"], shown["success"], shown["first_row"]) == (4, True, 11)


@pytest.mark.parametrize("word", ["success", "failure", "abort"])
def test_a_label_reaches_the_store_without_a_learner(
    run: Run, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert call(capsys, "label", run.folder, 1, word)["state"] == "stored"
    assert call(capsys, "label", run.folder, 2, word)["state"] == "stored"
    after = {"success": [(1.0, True)] * 2, "failure": [(0.0, False)] * 2}
    unchanged = [(0.0, False), (1.0, True)]
    found = outcomes(run)
    assert [found[1], found[2]] == after.get(word, unchanged)
    assert found[3] == (0.0, False)
    assert verify(run.store, SPEC)[:2] == (25, 2)
    assert call(capsys, "ls", run.folder)["labels"] == 2
    assert call(capsys, "label", run.folder, 9, word, code=2) == {}


def test_a_label_goes_through_a_living_learner_and_waits_for_a_deaf_one(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.store.admin import label as module

    wanted = EpisodeLabel(ACTOR, 2, Outcome.FAILURE)
    with Store(run.store, SPEC) as store:
        assert module.deliver_label(run, SPEC, wanted, timeout_s=0.5) == "waiting"
        stop, heard = threading.Event(), []
        with StreamReceiver(run.endpoint("stream"), store, SPEC) as receiver:

            def listen() -> None:
                while not stop.is_set():
                    heard.extend(receiver.arrivals(0.02))

            thread = threading.Thread(target=listen)
            thread.start()
            try:
                assert call(capsys, "label", run.folder, 1, "success")["state"] == "stored"
            finally:
                stop.set()
                thread.join()
        # the one that waited came first
        assert [s.row for s in heard] == [wanted, EpisodeLabel(ACTOR, 1, Outcome.SUCCESS)]
    assert outcomes(run) == {1: (1.0, True), 2: (0.0, False), 3: (0.0, False)}


def test_a_label_that_waited_is_taken_when_the_learner_starts(run: Run) -> None:
    from learner.store.admin import label as module

    with Store(run.store, SPEC):
        module.deliver_label(run, SPEC, EpisodeLabel(ACTOR, 2, Outcome.FAILURE), timeout_s=0.2)
    with Store(run.store, SPEC) as store:
        assert [s.row for s in store_waiting_labels(run, SPEC, store)] == [
            EpisodeLabel(ACTOR, 2, Outcome.FAILURE)
        ]
        assert store_waiting_labels(run, SPEC, store) == []
        assert {s.actor for s in store.records(25)} == {AUTHOR}
    assert outcomes(run)[2] == (0.0, False)


def test_verify_names_a_spoilt_row_and_repair_saves_the_rest(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "verify", run.folder)["whole"] is True
    with Store(run.store, SPEC, readonly=True) as store:
        uuid, before = store.uuid, list(store.digests())
        (blob,) = [s[4] for s in store._blobs(6) if s[0] == 7]
    spoil(run.store, blob, 80)
    assert main(["data", "verify", str(run.folder)]) == 1
    out = capsys.readouterr().out
    assert "row 7 " in out
    assert "checksum" in out
    done = call(capsys, "repair", run.folder)
    assert (done["rows"], done["lost"]) == (24, 1)
    assert Path(str(done["kept"])).exists()
    with Store(run.store, SPEC) as store:
        assert list(store.digests()) == [d for i, d in enumerate(before, 1) if i != 7]
        assert (store.uuid, store.epoch) == (uuid, 1)
        session = before[0][0]
        assert store.last_durable(session) == 6  # so that the actor sends row 7 again
    assert call(capsys, "verify", run.folder, code=1)["faults"] == 1


@pytest.mark.parametrize("page", [2, 4, 6, 8, 10])
def test_repair_saves_what_a_destroyed_page_leaves(run: Run, page: int) -> None:
    from learner.store.admin.repair import repair

    with Store(run.store, SPEC) as store:
        for number in range(10, 60):
            store.put_rows(ACTOR, make_episode(number, 4))
        before = set(store.digests())
    data = bytearray(run.store.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    run.store.write_bytes(data)
    assert verify(run.store, SPEC).faults
    try:
        done = repair(run.store, SPEC)
    except StorageError:
        assert page in (2, 4)  # a root page: the rest can't be found without it
        assert run.store.read_bytes() == data
        return
    with Store(run.store, SPEC) as store:
        after = set(store.digests())
    assert after <= before
    assert len(after) == done.rows >= len(before) // 2
    structure = [f for f in verify(run.store, SPEC).faults if "missing" not in f]
    assert structure == []


def test_prune_asks_first_and_what_it_took_is_not_asked_for_again(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("prune", run.folder, "--source", "online", "--episodes", "2-3")
    assert call(capsys, *words) == {"episodes": 2, "rows": 10, "done": False}
    assert len(outcomes(run)) == 3
    assert call(capsys, *words, "--yes", "--shrink")["done"] is True
    assert sorted(outcomes(run)) == [1]
    found = verify(run.store, SPEC)
    assert (found.rows, found.faults, found.pruned) == (15, [], 10)
    with Store(run.store, SPEC) as store:
        session = next(iter(store.digests()))[0]
        assert store.last_durable(session) >= 5
        assert store.cursor == 25
        assert store.put_rows(ACTOR, make_episode(4, 4)) == 30
    assert main(["data", "prune", str(run.folder)]) == 2


def test_the_newest_rows_place_is_not_used_again_after_a_prune(run: Run) -> None:
    prune(run.store, SPEC, EpisodeFilter(sources=(Source.EVAL,)))
    with Store(run.store, SPEC) as store:
        assert (store.cursor, len(store)) == (25, 20)
        (session,) = {s for s, *_ in store.digests() if store.last_durable(s) == 25}
        assert store.put_rows(ACTOR, make_episode(4, 4)) == 30
        assert session


def test_age_is_measured_by_the_marks_and_by_nothing_else(run: Run) -> None:
    import time

    now = time.time()
    assert plan(run.store, SPEC, EpisodeFilter(older_s=30), now).rows == 0
    assert plan(run.store, SPEC, EpisodeFilter(older_s=30), now + 100).rows == 25
    assert (
        plan(run.store, SPEC, EpisodeFilter(older_s=30), now - 1e6).rows == 0
    )  # the clock was set back


def test_export_is_read_back_by_numpy_alone(run: Run, tmp_path: Path) -> None:
    with Store(run.store, SPEC) as store:
        store.put_label(AUTHOR, EpisodeLabel(ACTOR, 1, Outcome.SUCCESS))
        rows = [row for _, row in store.rows()]
    out = tmp_path / "open"
    assert main(["data", "export", str(run.folder), str(out)]) == 0
    index = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert [(e["source"], e["episode"], e["success"]) for e in index] == [
        ("demo", 0, True),
        ("online", 1, True),
        ("online", 2, True),
        ("online", 3, False),
        ("eval", 1, True),
    ]
    for number, about in enumerate(index):
        with np.load(out / about["file"], allow_pickle=False) as arrays:
            mine = rows[5 * number : 5 * number + 5]
            np.testing.assert_array_equal(arrays["state"], [row.state for row in mine])
            np.testing.assert_array_equal(arrays["action"], [row.action for row in mine[:4]])
            np.testing.assert_array_equal(arrays["reward"], [row.reward for row in mine[:4]])
    assert main(["data", "export", str(run.folder), str(out)]) == 2  # not into a folder in use


def test_a_backup_is_of_one_moment_while_rows_arrive(run: Run, tmp_path: Path) -> None:
    stop = threading.Event()
    with Store(run.store, SPEC) as store:

        def write() -> None:
            number = 10
            while not stop.is_set():
                store.put_rows(ACTOR, make_episode(number, 4))
                number += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            counts = [backup(run.store, SPEC, tmp_path / f"{i}.db") for i in range(5)]
        finally:
            stop.set()
            thread.join()
        whole = list(store.digests())
    assert all(count % 5 == 0 for count in counts)
    for i, count in enumerate(counts):
        assert verify(tmp_path / f"{i}.db", SPEC).faults == []
        with Store(tmp_path / f"{i}.db", SPEC, readonly=True) as copy:
            assert list(copy.digests()) == whole[:count]
    with pytest.raises(StorageError, match="exists"):
        backup(run.store, SPEC, tmp_path / "0.db")


def test_restore_asks_before_it_replaces_and_raises_the_epoch(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "backup.db"
    assert call(capsys, "backup", run.folder, file)["rows"] == 25
    with Store(run.store, SPEC) as store:
        store.put_rows(ACTOR, make_episode(9, 4))
        uuid = store.uuid
        assert main(["data", "restore", str(run.folder), str(file), "--force"]) == 2  # in use
        assert "in use" in capsys.readouterr().err
    assert main(["data", "restore", str(run.folder), str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    done = call(capsys, "restore", run.folder, file, "--force")
    assert (done["rows"], done["epoch"]) == (25, 1)
    with Store(Path(str(done["kept"])), SPEC, readonly=True) as kept:
        assert len(kept) == 30
    with Store(run.store, SPEC) as store:
        assert (store.uuid, store.epoch, len(store)) == (uuid, 1, 25)
    assert call(capsys, "restore", run.folder, file, "--force")["epoch"] == 2
    spoilt = tmp_path / "spoilt.db"
    shutil.copy(file, spoilt)
    with Store(spoilt, SPEC, readonly=True) as store:
        blob = next(iter(store._blobs(3)))[4]
    spoil(spoilt, blob, 60)
    assert main(["data", "restore", str(run.folder), str(spoilt), "--force"]) == 2
    assert "not whole" in capsys.readouterr().err
    assert (tmp_path / "run" / "store.db").exists()


def test_holes_are_found() -> None:
    assert find_gaps([(1, 3), (4, 4)]) == []
    assert find_gaps([(2, 3), (5, 6), (6, 6)]) == [
        ("missing", 1, 1),
        ("missing", 4, 4),
        ("there twice", 6, 6),
    ]


def test_a_label_is_what_it_was_or_refused() -> None:
    label = EpisodeLabel("Arm-Ä", 7, Outcome.ABORT, 2.5)
    blob = encode_label(label)
    assert decode_record(blob, SPEC) == label
    for place in range(len(blob)):
        for bad in (blob[:place] + bytes([blob[place] ^ 4]) + blob[place + 1 :], blob[:place]):
            with pytest.raises(Exception, match=r"label|row") as caught:
                decode_record(bad, SPEC)
            assert type(caught.value).__name__ == "ProtocolMismatch"
