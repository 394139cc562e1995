"""Key files and lists: made private, refused when they are not, changed by one command each."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_keys import keys, new_host

from handrail.__main__ import main
from handrail.errors import ConfigError
from handrail.keys import files
from handrail.keys.host_keys import HostKeys
from handrail.link.config import LinkConfig, resolve_link
from handrail.process import KEYS_ENV
from handrail.rate_limit import RateLimit, TokenBuckets
from handrail.run_folder import create_run

OTHER = "ab" * 32


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_keys_are_private_and_are_not_made_twice(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "keys"
    before = os.umask(0)
    try:
        public = new_host(folder)
        keys(folder, "allow", "robot", OTHER)
    finally:
        os.umask(before)
    assert (mode(folder), mode(folder / "host.key"), mode(folder / "allowed")) == (
        0o700,
        0o600,
        0o600,
    )
    with pytest.raises(ConfigError, match="handrail keys rotate"):
        keys(folder, "new")
    assert files.read_pair(folder).public == public
    assert sorted(path.name for path in folder.iterdir()) == ["allowed", "host.key"]


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("host.key", 0o640, "read by others.*0640.*chmod 600"),
        ("host.key", 0o604, "chmod 600"),
        ("allowed", 0o620, "changed by others.*chmod 600"),
        (".", 0o777, "changed by others.*chmod 700"),
    ],
)
def test_files_that_others_may_touch_are_refused_with_the_line_that_mends_it(
    tmp_path: Path, name: str, bad: int, words: str
) -> None:
    new_host(tmp_path / "k")
    keys(tmp_path / "k", "allow", "robot", OTHER)
    (tmp_path / "k" / name).chmod(bad)
    with pytest.raises(ConfigError, match=words) as caught:
        HostKeys(tmp_path / "k")
    line = str(caught.value).split("run: ")[1]
    assert os.system(line) == 0
    assert HostKeys(tmp_path / "k").snapshot().names == {OTHER: "robot"}


def test_the_list_says_who_is_let_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = new_host(tmp_path)
    keys(tmp_path, "allow", "robot", OTHER)
    keys(tmp_path, "allow", "robot", OTHER.upper())
    keys(tmp_path, "allow", "robot", "cd" * 32)
    capsys.readouterr()
    keys(tmp_path, "show", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["key"] == public
    assert [entry["key"] for entry in shown["allowed"]] == [OTHER, "cd" * 32]
    with pytest.raises(ConfigError, match="is 'robot' already"):
        keys(tmp_path, "allow", "other", OTHER)
    keys(tmp_path, "revoke", "cd" * 32)
    assert files.read_allowed(tmp_path) == {OTHER: "robot"}
    keys(tmp_path, "revoke", "robot")
    assert files.read_allowed(tmp_path) == {}
    with pytest.raises(ConfigError, match="not on the list"):
        keys(tmp_path, "revoke", "robot")


@pytest.mark.parametrize("key", ["", "ab", "g" * 64, "ab" * 33, "ab" * 31 + "a\n"])
def test_what_is_no_key_is_not_listed(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        keys(tmp_path / "k", "allow", "robot", key)
    with pytest.raises(ConfigError, match="a host's name"):
        keys(tmp_path / "k", "allow", "robot one", OTHER)
    assert not (tmp_path / "k" / "allowed").exists()


def test_a_rotation_is_finished_once_and_only_after_it_was_begun(tmp_path: Path) -> None:
    old = new_host(tmp_path)
    with pytest.raises(ConfigError, match="no new key is prepared"):
        keys(tmp_path, "rotate", "--finish")
    keys(tmp_path, "rotate")
    assert mode(tmp_path / "next.key") == 0o600
    with pytest.raises(ConfigError, match="prepared already"):
        keys(tmp_path, "rotate")
    assert files.read_pair(tmp_path).public == old
    keys(tmp_path, "rotate", "--finish")
    new = files.read_pair(tmp_path).public
    keys(tmp_path, "rotate", "--now")
    assert len({old, new, files.read_pair(tmp_path).public}) == 3
    assert not (tmp_path / "next.key").exists()


def test_the_command_says_what_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "show", "--keys", str(tmp_path / "none")]) == 2
    assert "run: handrail keys new" in capsys.readouterr().err


def test_what_was_read_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.keys.host_keys.REREAD_S", 0.0)
    new_host(tmp_path)
    host = HostKeys(tmp_path)
    first = host.snapshot()
    assert host.snapshot() is first
    keys(tmp_path, "allow", "robot", OTHER)
    assert host.snapshot().names == {OTHER: "robot"}
    (tmp_path / "allowed").write_text("robot\n")
    assert host.snapshot() == (first.pair, {})  # unusable: nobody, until it is put right
    (tmp_path / "allowed").write_text(f"# a comment\n\nrobot {OTHER} # this too\n")
    assert host.snapshot().names == {OTHER: "robot"}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_mutated_file_is_read_right_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutated"
    if not folder.exists():
        new_host(folder)
        keys(folder, "allow", "robot", OTHER)
        (folder / "pair").write_bytes((folder / "host.key").read_bytes())
    name, original = data.draw(
        st.sampled_from(
            [
                ("host.key", (folder / "pair").read_bytes()),
                ("allowed", f"robot {OTHER}\n".encode()),
            ]
        )
    )
    text = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    (folder / name).write_bytes(text)
    try:
        if name == "host.key":
            pair = files.read_pair(folder)
            assert f"public {pair.public}\nsecret {pair.secret}\n".encode() == original
        else:
            for key, host in files.read_allowed(folder).items():
                assert files.check_key(key) == key
                assert files.check_name(host) == host
    except ConfigError:
        pass
    finally:
        (folder / name).write_bytes(original)


def test_a_bucket_runs_dry_and_fills_again() -> None:
    budgets = TokenBuckets(RateLimit(10.0, 3.0))
    assert [budgets.take("a", now=0.0) for _ in range(4)] == [True, True, True, False]
    assert budgets.take("b", now=0.0)
    assert not budgets.take("a", now=0.0)
    assert budgets.take("a", 100.0, now=0.1)
    assert not budgets.take("a", now=5.0)  # the debt is not paid yet
    assert budgets.take("a", now=20.0)


def test_a_run_is_local_unless_an_address_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_ENV, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    run = create_run(tmp_path / "run", "toy", "0", "")
    local = resolve_link(run, LinkConfig(), listens=True)
    assert local.stream.startswith("ipc://@handrail-")
    assert local.keys is None
    loopback = resolve_link(run, LinkConfig(address="127.0.0.1"), listens=True)
    assert loopback[:4] == (*(f"tcp://127.0.0.1:{port}" for port in (5770, 5771, 5772)), None)
    for listens in (True, False):
        for config in (LinkConfig(address="gpu.lab"), LinkConfig(bind="0.0.0.0")):
            with pytest.raises(ConfigError, match="run: handrail keys new"):
                resolve_link(run, config, listens)
    new_host(tmp_path / "handrail" / "keys")
    far = LinkConfig(address="gpu.lab", port=6000)
    assert resolve_link(run, far, listens=True).stream == "tcp://*:6000"
    assert resolve_link(run, far, listens=False).request == "tcp://gpu.lab:6002"
    assert resolve_link(run, far, listens=False).keys is not None


@pytest.mark.parametrize("bad", [{"port": 0}, {"address": "tcp://x"}, {"bind": "a b"}])
def test_a_link_table_that_means_nothing_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        LinkConfig(**bad)  # type: ignore[arg-type]
