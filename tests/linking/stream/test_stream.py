"""The stream over real sockets: rows once and in order."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from made_link import SPEC, Side, address, blob, make_row, take, until

from handrail.errors import LinkTimeout, StorageError
from handrail.link import wire
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from learner.store.store import Store

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@pytest.mark.parametrize("kind", ["abstract", "tcp", "file"])
def test_rows_arrive_once_in_order_and_leave_the_spool(
    tmp_path: Path, endpoint: str, kind: str
) -> None:
    endpoint = address(kind, endpoint, tmp_path)
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        for t in range(3000):
            actor.spool.append(blob(t))
        assert take(receiver, 3000) == list(range(3000))
        actor.sender.drain(5.0)
        status = actor.sender.status()
        assert (status.depth, status.acked, status.unacked_bytes) == (0, 3000, 0)
        assert status.connected
        assert receiver.poll(0.05) == []
        assert (receiver.refused, receiver.missing) == (0, 0)
        assert [c for c, _ in store.rows()] == list(range(1, 3001))
        assert list(receiver.actors) == ["arm"]


def test_nothing_is_acknowledged_before_the_store_has_it(tmp_path: Path, endpoint: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, answer_s=0.3) as actor,
    ):

        class Refusing:
            uuid, epoch = store.uuid, store.epoch
            open_sessions, last_durable = store.open_sessions, store.last_durable
            count_missing = store.count_missing

            def put(self, rows: object) -> list[object]:
                raise StorageError("disk full")

        with StreamReceiver(endpoint, Refusing(), SPEC) as receiver:
            actor.spool.append(blob(0))
            with pytest.raises(StorageError, match="disk full"):
                take(receiver, 1)
            time.sleep(0.1)
            assert actor.sender.status().depth == 1
        with StreamReceiver(endpoint, store, SPEC) as receiver:
            assert take(receiver, 1) == [0]


def test_the_caller_never_waits_while_the_learner_is_gone(tmp_path: Path, endpoint: str) -> None:
    with Store(tmp_path / "store.db", SPEC) as store, Side(tmp_path, endpoint) as actor:
        times = []
        for t in range(5000):
            start = time.perf_counter()
            actor.spool.append(blob(t))
            times.append(time.perf_counter() - start)
        assert np.median(times) < 1e-3
        assert not actor.sender.status().connected
        actor.sender.check()  # a learner that is away is no error
        with pytest.raises(LinkTimeout, match="5000 rows"):
            actor.sender.drain(0.1)
        with StreamReceiver(endpoint, store, SPEC) as receiver:
            assert take(receiver, 5000) == list(range(5000))


def test_the_window_bounds_what_is_on_the_way(tmp_path: Path, endpoint: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, window_rows=100, batch_rows=10) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        for t in range(1000):
            actor.spool.append(blob(t))
        until(lambda: receiver.poll(0.05) or actor.sender.status().connected)
        time.sleep(0.2)
        assert actor.sender.status().unacked_bytes <= 110 * len(blob(0))
        assert len(store) + len(receiver.poll(0.5)) <= 220
        got = len(store)
        take(receiver, 1000 - got)
        assert [row.t for _, row in store.rows()] == list(range(1000))


@pytest.mark.slow
def test_a_learner_that_is_silent_for_long_gets_no_flood(tmp_path: Path, endpoint: str) -> None:
    """It may be compiling: rows are not sent again before it has answered."""
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, answer_s=0.1) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        actor.spool.append(blob(0))
        take(receiver, 1)
        for t in range(1, 400):
            actor.spool.append(blob(t))
        actor.spool.flush(5.0)
        until(lambda: not actor.sender.status().connected)
        time.sleep(1.0)
        counted, original = [], store.put
        store.put = lambda rows: counted.append(len(rows)) or original(rows)  # type: ignore
        take(receiver, 399)
        until(lambda: receiver.poll(0.02) == [] and actor.sender.status().depth == 0)
        assert sum(counted) == 399


@pytest.mark.parametrize("change", ["same store", "restarts", "older copy", "nothing retained"])
def test_a_learner_that_comes_back_goes_on_where_its_store_is(
    tmp_path: Path, endpoint: str, change: str
) -> None:
    path = tmp_path / "store.db"
    backup = b""
    retain = 0 if change == "nothing retained" else 1 << 30
    copied = change in ("older copy", "nothing retained")
    with Side(tmp_path, endpoint, retain_bytes=retain, answer_s=0.3) as actor:
        total = 0
        for round_ in range(4):
            for t in range(total, total + 200):
                actor.spool.append(blob(t))
            total += 200
            with Store(path, SPEC) as store, StreamReceiver(endpoint, store, SPEC) as receiver:
                if change == "older copy" and round_ == 3:
                    assert take(receiver, 400) == list(range(400, 800))
                    assert receiver.missing == 0
                    assert actor.sender.status().refilled == 200
                    break
                take(receiver, 200)
                assert receiver.missing == (200 if copied and round_ == 3 else 0)
                if change != "restarts":
                    actor.sender.drain(5.0)
                if change == "nothing retained":
                    until(lambda: actor.spool.first_retained_seq(actor.spool.session) == total + 1)  # noqa: B023
            if copied and round_ == 1:
                backup = path.read_bytes()
            if copied and round_ == 2:
                path.write_bytes(backup)
        with Store(path, SPEC) as store:
            lost = change == "nothing retained"
            wanted = [*range(400), *range(600, 800)] if lost else range(800)
            assert [row.t for _, row in store.rows()] == list(wanted)


def test_a_restarted_actor_delivers_what_its_predecessor_left(
    tmp_path: Path, endpoint: str
) -> None:
    """A new actor's numbers start anew and nothing of either session is lost."""
    with Store(tmp_path / "store.db", SPEC) as store:
        sessions = []
        for start in (0, 100, 200):
            with Side(tmp_path, endpoint) as actor:
                sessions.append(actor.spool.session)
                for t in range(start, start + 100):
                    actor.spool.append(blob(t))
                if start:
                    continue
                with StreamReceiver(endpoint, store, SPEC) as receiver:
                    take(receiver, 100)
                    actor.sender.drain(5.0)
        with Side(tmp_path, endpoint) as actor, StreamReceiver(endpoint, store, SPEC) as receiver:
            actor.spool.append(blob(300))
            assert take(receiver, 201) == list(range(100, 301))
            sessions.append(actor.spool.session)
        seen = [(a.session, a.seq) for a in store.labelled_rows()]
        assert seen == [
            *((s, seq) for s in sessions[:3] for seq in range(1, 101)),
            (sessions[3], 1),
        ]


def test_many_actors_are_served_and_kept_apart(tmp_path: Path, endpoint: str) -> None:
    names = [f"arm-{i}" for i in range(8)]
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        actors = [Side(tmp_path, endpoint, name) for name in names]
        for t in range(200):
            for number, actor in enumerate(actors):
                actor.spool.append(blob(t, number))
        take(receiver, 8 * 200)
        for actor in actors:
            actor.sender.drain(5.0)
            actor.__exit__()
        assert sorted(receiver.actors) == names
        for number, name in enumerate(names):
            rows = [a for a in store.labelled_rows() if a.actor == name]
            assert [(a.row.t, a.row.episode, a.seq) for a in rows] == [
                (t, number, t + 1) for t in range(200)
            ]


def test_long_rows_arrive_in_frames_of_their_own(tmp_path: Path, endpoint: str) -> None:
    spec = dataclasses.replace(SPEC, images={"front": (160, 160, 3)})
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 160, 160, 3), np.uint8)
    assert frames[0].nbytes >= wire.SEPARATE_FRAME_BYTES
    with (
        Store(tmp_path / "store.db", spec) as store,
        Spool(tmp_path / "spool.db") as spool,
        StreamReceiver(endpoint, store, spec) as receiver,
    ):
        for t, frame in enumerate(frames):
            row = dataclasses.replace(make_row(t), images={"front": frame})
            spool.append(encode_row(row, spec))
        with StreamSender(endpoint, spool, Hello.of("arm", spool.session, spec)) as sender:
            assert take(receiver, 40) == list(range(40))
            sender.drain(5.0)
        stored = [row.images["front"] for _, row in store.rows()]
    assert (np.stack(stored) == frames).all()
