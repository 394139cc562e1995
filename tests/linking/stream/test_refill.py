"""A learner that comes back with less than it had is refilled; duplicate actors are kept out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from made_rows import SPEC, make_episode

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import ProtocolMismatch
from handrail.link.label_codec import encode_label
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from handrail.transition import Source
from learner.store.admin.backup import backup, restore
from learner.store.admin.repair import repair
from learner.store.admin.verify import verify
from learner.store.store import Store


def new_endpoint() -> str:
    return f"ipc://@handrail-test-{uuid.uuid4().hex[:12]}"


def learner(store: Path, endpoint: str) -> None:
    """Store what comes, until killed."""
    with Store(store, SPEC) as opened, StreamReceiver(endpoint, opened, SPEC) as receiver:
        while True:
            receiver.poll(0.05)


@contextlib.contextmanager
def process(store: Path, endpoint: str):
    """A learner in a process of its own; SIGKILLed at the end."""
    command = [sys.executable, "-W", "error", __file__, str(store), endpoint]
    kit = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "kit")}
    child = subprocess.Popen(command, env=kit)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


class Actor:
    """An actor's end of the link."""

    def __init__(self, folder: Path, endpoint: str, name: str = "arm") -> None:
        self.spool = Spool(folder / f"{name}.db", actor=name)
        self.sender = StreamSender(
            endpoint, self.spool, Hello.of(name, self.spool.session, SPEC), answer_s=0.5
        )

    def send(self, episode: int, verdict: Outcome | None = None) -> None:
        for row in make_episode(episode, 4):
            self.spool.append(encode_row(row, SPEC))
        if verdict is not None:
            self.spool.append(encode_label(EpisodeLabel("arm", episode, verdict)))
        self.spool.flush(10.0)

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close()
        self.spool.close()


def test_a_learner_replaced_by_one_with_an_older_store_is_refilled(tmp_path: Path) -> None:
    """Rows and labels of a dead session and of the living one, each once, and in order."""
    endpoint, path, old = new_endpoint(), tmp_path / "store.db", tmp_path / "old.db"
    with process(path, endpoint):
        with Actor(tmp_path, endpoint) as actor:
            for number in range(10):
                actor.send(number)
            actor.sender.drain(30.0)
            backup(path, SPEC, old)
            for number in range(10, 20):
                actor.send(number, Outcome.FAILURE)
            actor.sender.drain(30.0)
        actor = Actor(tmp_path, endpoint)
        actor.send(20)
        actor.sender.drain(30.0)
    with Store(path, SPEC, readonly=True) as store:
        wanted = Counter(store.digests())
    with actor:
        with process(old, endpoint):
            actor.send(21)
            actor.sender.drain(30.0)
        assert actor.sender.status().refilled == 10 * 6 + 5
    with Store(old, SPEC) as store:
        found = Counter(store.digests())
        assert max(found.values()) == 1
        assert set(wanted) <= set(found)
        assert len(found) == len(wanted) + 5
        ends = [row.success for _, row in store.rows() if row.t == 3]
    assert ends == [True] * 10 + [False] * 10 + [True] * 2
    assert verify(old, SPEC).faults == []


@pytest.mark.slow
def test_a_restored_backup_is_refilled_and_the_superseded_store_is_kept_out(tmp_path: Path) -> None:
    endpoint, path, saved = new_endpoint(), tmp_path / "store.db", tmp_path / "saved.db"
    with Actor(tmp_path, endpoint) as actor:
        with process(path, endpoint):
            actor.send(0)
            actor.sender.drain(30.0)
            backup(path, SPEC, saved)
            actor.send(1)
            actor.sender.drain(30.0)
        kept = restore(path, SPEC, saved, force=True).kept
        assert kept is not None
        with process(path, endpoint):
            actor.send(2)
            actor.sender.drain(30.0)
        with Store(path, SPEC) as store:
            assert (store.epoch, len(store)) == (1, 15)
        with Store(kept, SPEC) as store, StreamReceiver(endpoint, store, SPEC) as receiver:
            deadline = time.monotonic() + 20
            while not actor.sender.status().refusal and time.monotonic() < deadline:
                receiver.poll(0.05)
            with pytest.raises(ProtocolMismatch, match=r"superseded.*epoch 0.*epoch 1|epoch 0"):
                actor.sender.check()
            assert receiver.refused >= 1
            assert len(store) == 10


def test_a_journal_of_the_store_that_was_stays_with_it(tmp_path: Path) -> None:
    """A writer killed in mid-transaction leaves one; beside the restored store it would undo it."""
    path, saved = tmp_path / "store.db", tmp_path / "saved.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm", make_episode(0, 400))
        backup(path, SPEC, saved)
        store.put_rows("arm", make_episode(1, 400))
        wanted = sorted(store.digests())
    program = (
        "import apsw, os, signal, sys; c = apsw.Connection(sys.argv[1])\n"
        "c.pragma('journal_mode', 'delete'); c.pragma('cache_size', 4); c.execute('BEGIN')\n"
        "c.execute('UPDATE rows SET blob = zeroblob(length(blob))')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)])
    assert path.with_name("store.db-journal").stat().st_size > 4096
    kept = restore(path, SPEC, saved, force=True).kept
    assert kept is not None
    assert not path.with_name("store.db-journal").exists()
    assert verify(path, SPEC).faults == []
    with Store(path, SPEC) as store, Store(saved, SPEC) as copy:
        assert list(store.digests()) == list(copy.digests())
    with Store(kept, SPEC) as store:  # and the one that was is as before the transaction
        assert sorted(store.digests()) == wanted


def test_what_a_repair_lost_comes_back_from_the_actor(tmp_path: Path) -> None:
    endpoint, path = new_endpoint(), tmp_path / "store.db"
    with Actor(tmp_path, endpoint) as actor:
        with process(path, endpoint):
            for number in range(6):
                actor.send(number)
            actor.sender.drain(30.0)
        with Store(path, SPEC) as store:
            wanted = Counter(store.digests())
            blobs = [blob for cursor, *_, blob in store._blobs(0) if cursor in (7, 20)]
        data = bytearray(path.read_bytes())
        for blob in blobs:
            data[data.index(blob) + 90] ^= 1
        path.write_bytes(data)
        assert repair(path, SPEC).lost == 2
        with process(path, endpoint):
            actor.send(6)
            actor.sender.drain(30.0)
            time.sleep(0.2)
    assert verify(path, SPEC).faults == []
    with Store(path, SPEC) as store:
        found = Counter(store.digests())
    assert max(found.values()) == 1
    assert set(wanted) <= set(found)
    assert len(found) == len(wanted) + 5


def test_a_second_actor_of_the_same_name_is_kept_out_and_both_sides_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.link.sender._DUPLICATE_S", (0.1, 0.5))
    endpoint = new_endpoint()
    (tmp_path / "other").mkdir()
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Actor(tmp_path, endpoint) as first,
    ):
        first.send(0)
        while len(store) < 5:
            receiver.poll(0.05)
        with Actor(tmp_path / "other", endpoint) as second:
            second.send(1)
            deadline = time.monotonic() + 20
            failed = ""
            while not failed and time.monotonic() < deadline:
                receiver.poll(0.05)
                try:
                    second.sender.check()
                except ProtocolMismatch as error:
                    failed = str(error)
            assert "an actor named 'arm' is connected already" in failed
            assert second.spool.session in failed
            assert len(store) == 5
            first.send(2)
            while len(store) < 10:
                receiver.poll(0.05)
            first.sender.check()
            first.sender.close()  # it goes: the other one is served
            while len(store) < 15:
                receiver.poll(0.05)
            second.sender.check()
    said = [r.message for r in caplog.records if "refused a second actor" in r.message]
    assert len(said) == 1
    assert any("refuses us" in r.message for r in caplog.records)


def test_a_replacement_of_a_killed_actor_is_served_at_once(tmp_path: Path) -> None:
    endpoint = new_endpoint()
    program = (
        "import sys, time; from pathlib import Path; from test_refill import Actor\n"
        "actor = Actor(Path(sys.argv[1]), sys.argv[2]); actor.send(0); time.sleep(60)"
    )
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        command = [sys.executable, "-c", program, str(tmp_path), endpoint]
        here = Path(__file__).resolve()
        paths = f"{here.parent}{os.pathsep}{here.parents[2] / 'kit'}"
        tests = {**os.environ, "PYTHONPATH": paths}
        child = subprocess.Popen(command, env=tests)
        while len(store) < 5:
            receiver.poll(0.05)
        child.kill()
        child.wait()
        with Actor(tmp_path, endpoint) as actor:
            actor.send(1)
            while len(store) < 10:
                receiver.poll(0.05)
                actor.sender.check()
                assert actor.sender.status().refusal == ""


def test_a_store_of_the_first_format_is_read_and_upgraded(tmp_path: Path) -> None:
    path, older = tmp_path / "store.db", tmp_path / "older.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm", make_episode(0, 4, Source.DEMO))
        store._db.writer.execute("DROP TABLE gaps; DROP TABLE marks; PRAGMA user_version = 1")
    shutil.copy(path, older)
    with Store(older, SPEC, readonly=True) as store:
        assert len(list(store.rows())) == 5
    assert verify(older, SPEC).faults == []
    with Store(older, SPEC) as store:
        assert store._db.format == 3
        assert store.put_rows("arm", [dataclasses.replace(make_episode(1, 4)[0])]) == 6


if __name__ == "__main__":
    learner(Path(sys.argv[1]), sys.argv[2])
