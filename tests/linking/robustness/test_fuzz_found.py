"""What the fuzzer found, each as the smallest input that shows it."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import apsw
import numpy as np
import pytest
from made_critic import made_critic, made_episodes
from made_link import SPEC, blob, make_row
from msgspec import structs

from actor.config import parse_config
from actor.report.metrics_tail import MetricsTail
from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import (
    CheckpointError,
    ConfigError,
    ProtocolMismatch,
    RunFolderError,
    StorageError,
)
from handrail.link import wire
from handrail.link.label_codec import decode_label, encode_label
from handrail.risk_critic.file import read_critic, write_critic
from handrail.risk_critic.format import pack_critic
from handrail.run_folder import create_run, open_run, read_metrics
from handrail.spec import EnvSpec, dump_spec, load_spec
from handrail.storage.spool import Spool
from learner.risk.episodes import load_episodes, save_episodes
from learner.store.checkpoint import Checkpoints
from learner.store.store import Store
from robot_env.recorder.ring_recovery import left_by_crash

DEEP = "[" * 5000


@pytest.mark.parametrize("number", [-1, 1 << 40, (1 << 64) - 1])
def test_a_number_that_no_row_can_have_is_refused(number: int) -> None:
    rows = wire.Rows(1, "s", number, number, [188])
    welcome = wire.Welcome(1, "store", 0, {"s": number})
    for message in (rows, welcome, wire.Ack(1, "s", number), wire.Welcome(1, "x", number, {})):
        with pytest.raises(ProtocolMismatch):
            wire.load(wire.dump(message))


def test_a_store_with_an_endless_name_is_not_taken_for_one() -> None:
    with pytest.raises(ProtocolMismatch):
        wire.load(wire.dump(wire.Welcome(1, "x" * 257, 0, {})))
    hello = structs.replace(wire.Hello.of("a", "s", SPEC), epoch=-1)
    with pytest.raises(ProtocolMismatch):
        wire.load(wire.dump(hello))


def test_a_label_has_one_form() -> None:
    data = bytearray(encode_label(EpisodeLabel("arm", 3, Outcome.ABORT)))
    data[38] = 1  # not used
    data[:32] = hashlib.sha256(data[32:]).digest()
    with pytest.raises(ProtocolMismatch):
        decode_label(data)


@pytest.mark.parametrize(
    "change",
    [
        (b"0.93", b"0.13"),
        (b'{\\"auc\\": 0.93}', b"17"),
        (b"[0, ", b"[1e999, "),
        (b"about_sha256", b"about_sha257"),
    ],
)
def test_a_critics_description_is_what_was_written(
    tmp_path: Path, change: tuple[bytes, bytes]
) -> None:
    path = tmp_path / "critic.safetensors"
    write_critic(path, pack_critic(made_critic(2, (3,), 1)), {"auc": 0.93})
    data = path.read_bytes()
    assert data.count(change[0]) == 1
    text = data[8:].replace(*change)
    length = struct.unpack("<Q", data[:8])[0] + len(change[1]) - len(change[0])
    path.write_bytes(struct.pack("<Q", length) + text)
    with pytest.raises(CheckpointError):
        read_critic(path)


def test_a_checkpoints_description_is_what_was_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    state = {"meta": {"updates": 2, "env_steps": 1, "gain": 0.5}, "arrays": {"w": np.ones(3)}}
    path = checkpoints.save(state)
    text = path.read_text()
    path.write_text(text.replace('"gain": 0.5', '"gain": 1.5'))
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoints.load()
    path.write_text(DEEP)
    with pytest.raises(CheckpointError):
        checkpoints.load()
    record = json.loads(text)
    path.write_text(json.dumps({**record, "format": 1, "meta_sha256": None}))
    assert checkpoints.load()["meta"] == state["meta"]  # one from before is read as ever


@pytest.mark.parametrize("dt", ["Infinity", "1e999"])
def test_episodes_have_a_finite_period(tmp_path: Path, dt: str) -> None:
    path = tmp_path / "e.safetensors"
    save_episodes(path, made_episodes(1, ticks=5, dt=0.5), {})
    data = path.read_bytes()
    assert data.count(b'\\"dt\\": 0.5') == 1
    text = data[8:].replace(b'\\"dt\\": 0.5', b'\\"dt\\": ' + dt.encode())
    length = struct.unpack("<Q", data[:8])[0] + len(dt) - 3
    path.write_bytes(struct.pack("<Q", length) + text)
    with pytest.raises(StorageError):
        load_episodes(path)


@pytest.mark.parametrize(
    "change",
    [
        {"slices": {}}, {"slices": {"a": (0, -5)}}, {"slices": {"a": (0, 1 << 40)}},
        {"slices": {"a": (0, 3), "b": (4, 5)}}, {"images": {"c": (8, -1, 3)}},
        {"images": {"c": (8, 1 << 60, 3)}}, {"control_hz": float("inf")}, {"action": 1 << 40},
    ],
)  # fmt: skip
def test_a_spec_has_sizes_that_can_be(tmp_path: Path, change: dict) -> None:
    values = {"slices": {"a": (0, 3)}, "action": 2, "control_hz": 10.0, "images": {}}
    with pytest.raises(ConfigError):
        EnvSpec(task="t", task_hash="h", horizon=5, **{**values, **change})
    good = EnvSpec(task="t", task_hash="h", horizon=5, **values)  # type: ignore[arg-type]
    table = json.loads(dump_spec(good)) | change
    (tmp_path / "spec.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError):
        load_spec(tmp_path / "spec.json")
    (tmp_path / "spec.json").write_text(DEEP)
    with pytest.raises(ConfigError):
        load_spec(tmp_path / "spec.json")


@pytest.mark.parametrize(
    ("key", "value"), [("id", "../x"), ("id", ""), ("origin", float("inf")), ("task", None)]
)
def test_a_run_has_an_identity(tmp_path: Path, key: str, value: object) -> None:
    run = create_run(tmp_path / "run", "peg", "0123", "")
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RunFolderError):
        open_run(run.folder)
    path.write_text(DEEP)
    with pytest.raises(RunFolderError):
        open_run(run.folder)


def test_a_preset_has_a_name() -> None:
    for preset in ([], {}):
        with pytest.raises(ConfigError, match="preset"):
            parse_config({"task": {"name": "peg"}, "learner": {"preset": preset}})


def test_a_line_of_metrics_that_nests_for_ever_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(DEEP + '\n{"kind": "event"}\n')
    assert list(read_metrics(path)) == MetricsTail(path).rows() == [{"kind": "event"}]


def test_a_ring_of_a_few_bytes_was_not_left_by_a_crash(tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(b"123")
    assert not left_by_crash(tmp_path / "ring")


def edit(path: Path, statement: str) -> None:
    with apsw.Connection(str(path)) as db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'epoch'",
        "DELETE FROM meta WHERE key = 'task_hash'",
        "UPDATE meta SET value = 'many' WHERE key = 'epoch'",
        "UPDATE meta SET value = x'ff' WHERE key = 'uuid'",
        "UPDATE sessions SET uuid = NULL",
        "UPDATE sessions SET actor = x'ff'",
        "UPDATE rows SET blob = 7 WHERE cursor = 2",
        "UPDATE rows SET blob = 'text' WHERE cursor = 2",
        "UPDATE rows SET source = 255 WHERE cursor = 2",
        "UPDATE rows SET cursor = 9223372036854775807 WHERE cursor = 2",
        "UPDATE rows SET seq = 'a' WHERE cursor = 2",
        "UPDATE counts SET rows = 'a'",
        "INSERT INTO gaps VALUES(1, 7, 5, 'lost')",
    ],
)
def test_a_store_with_a_wrong_cell_says_so(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "store.db"
    with Store(path, SPEC) as store:
        store.put_rows("arm", [make_row(t) for t in range(3)])
        store.put_label("me", EpisodeLabel("arm", 0, Outcome.ABORT))
    edit(path, statement)
    with pytest.raises(StorageError), Store(path, SPEC) as store:  # noqa: PT012
        list(store.rows())
        list(store.headers())
        store.put_rows("arm", [make_row(9)])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'uuid'",
        "INSERT INTO meta VALUES('store_epoch', '-1')",
        "UPDATE sessions SET acked = 'a'",
        "UPDATE sessions SET uuid = x'ff'",
        "UPDATE rows SET blob = 7",
        "UPDATE rows SET id = id + 1000 WHERE id = (SELECT max(id) FROM rows)",
    ],
)
def test_a_spool_with_a_wrong_cell_says_so(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "spool.db"
    with Spool(path, retain_bytes=0) as spool:
        for t in range(3):
            spool.append(blob(t))
        spool.flush(10.0)
    edit(path, statement)
    with pytest.raises(StorageError), Spool(path, retain_bytes=0) as spool:
        spool.read(0, 10, 1 << 20)
