"""Who may ask for what: the kernel's word, the host's key, and never a message's own."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from controllers.robot import Authority, Mode, Request
from handrail.errors import DeviceLost, NotGranted, ProtocolMismatch
from handrail.run_folder import Run, create_run
from robot_env.client import HostClient
from robot_env.host import messages
from robot_env.host.authorization import HostKey, Permission, read_key, why_refused
from robot_env.recorder.recording import Recording
from robot_env.tasks import make

TASK = make("peg")
NOBODY = 65534  # user id
HOST = "[host]\noverrun = 0\nrecorder = 10.0\nrecorder_lockstep = true\n"


@contextlib.contextmanager
def hosted(folder: Path, *options: str, more: str = "") -> Iterator[Run]:
    """Run a host; it must end well, whatever its clients did."""
    run = create_run(folder, "peg", TASK.spec.hash, f'[task]\nname = "peg"\n{HOST}{more}')
    with open(run.log("host"), "ab") as log:
        command = [sys.executable, "-m", "robot_env", "--run", str(run.folder), *options]
        process = subprocess.Popen(command, stderr=log)
        try:
            with HostClient.connect(run.id, deadline=120):
                pass
            yield run
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
    assert code == 0, run.log("host").read_text()
    assert not run.host_key.exists()


@pytest.fixture(
    scope="module", params=["lockstep", pytest.param("realtime", marks=pytest.mark.wallclock)]
)
def run(request, tmp_path_factory) -> Iterator[Run]:
    options = ["--realtime"] if request.param == "realtime" else []
    folder = tmp_path_factory.mktemp("grants") / "run"
    with hosted(folder, *options, more="[operator]\nenabled = true\n") as run:
        yield run


def ask(snapshot, seq: int, source: int, x: float = 0.3) -> Request:
    return TASK.request(snapshot, np.array([x, 0.0, 0.0]), seq, source)


def recorded(client: HostClient) -> tuple[Recording, np.ndarray]:
    """Return what the host recorded, and which of its ticks are this episode's."""
    recording = Recording(Path(client.dump()))
    begin = [event.time for event in recording.events if "begins" in event.what][-1]
    return recording, recording.wall > begin


def test_every_source_takes_its_own_grant_and_a_script_is_nobody_s():
    grants = [Permission(bits) for bits in range(8)]
    for source, grant in itertools.product([*range(-1, 9), 10**300], grants):
        allowed = (source == Authority.POLICY and Permission.POLICY in grant) or (
            source == Authority.HUMAN and Permission.HUMAN in grant
        )
        assert (why_refused(source, grant) == "") == allowed, (source, grant)
    why = why_refused(Authority.HUMAN, Permission.POLICY)
    assert "asks as HUMAN, which takes HUMAN" in why
    assert "was granted POLICY" in why
    assert "ask as one of [0, 1]" in why_refused(7, Permission.POLICY)


def test_the_key_is_its_user_s_alone_new_in_every_life_and_gone_after_it(tmp_path):
    path = tmp_path / "host.key"
    path.write_text("of an earlier host")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        first = HostKey(path, human=True)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    key = read_key(path)
    assert len(key) == 64
    assert (
        first.claim({"key": key, "ask": int(Permission.HUMAN)})
        == Permission.POLICY | Permission.HUMAN
    )
    second = HostKey(path, human=True)
    with pytest.raises(NotGranted, match="not this host's"):
        second.claim({"key": key, "ask": int(Permission.HUMAN)})
    second.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotGranted, match="can't read the host's key"):
        read_key(path)


@pytest.mark.parametrize("key", [None, "", "0" * 64, "é" * 64, "\ud800", 7, ["a"]])
def test_without_the_key_nothing_is_granted(tmp_path, key):
    with pytest.raises(NotGranted, match="not this host's"):
        HostKey(tmp_path / "host.key", human=True).claim({"key": key, "ask": 2})


@pytest.mark.parametrize("what", [None, 0, -1, 8, 255, True, 2.0, "2", [2]])
def test_a_claim_asks_for_grants_that_exist(tmp_path, what):
    ring = HostKey(tmp_path / "host.key", human=True)
    with pytest.raises(NotGranted, match="ask for a sum of"):
        ring.claim({"key": read_key(tmp_path / "host.key"), "ask": what})


@pytest.mark.slow
def test_a_message_that_names_itself_human_gets_no_authority_and_no_credit(run):
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        snapshot, _ = client.reset(3)
        snapshot = client.step(ask(snapshot, 0, Authority.POLICY))
        for n, source in enumerate((Authority.HUMAN, Authority.SCRIPT, Authority.HUMAN)):
            with pytest.raises(NotGranted, match=f"asks as {source.name}"):
                client.step(ask(snapshot, 1, source, x=-1.0))
            assert client.refused == n + 1
        snapshot = client.step(ask(snapshot, 1, Authority.POLICY))  # no number was used up
        assert snapshot.request_seq == 1
        recording, ours = recorded(client)
    assert ours.any()
    assert Mode.HUMAN not in recording["mode"][ours]
    assert set(recording["authority"][ours]) <= {-1.0, float(Authority.POLICY)}
    for quantity in ("loaned_energy", "loan_in_window"):
        assert not recording[quantity][ours].any()
    assert not (recording["mailbox.authority"][ours] > 0.0).any()
    notes = [event.what for event in recording.events if "asks as" in event.what]
    assert len(notes) == 1  # said once, counted always
    assert "was granted POLICY" in run.log("host").read_text()


@pytest.mark.slow
def test_a_refused_request_leaves_the_arm_to_the_watchdog(run):
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        if not client.realtime:
            pytest.skip("in lockstep no time passes without a request")
        snapshot, _ = client.reset(3)
        client.step(ask(snapshot, 0, Authority.POLICY))
        for _ in range(14):  # 1.4 s of nothing but forgeries are no fresh request
            with pytest.raises(NotGranted):
                client.step(ask(snapshot, 1, Authority.HUMAN))
        assert client.peek().mode == Mode.SOFT_STOP


def test_with_the_key_a_person_takes_over_and_still_scripts_nothing(run):
    with HostClient.connect(
        run.id, TASK, deadline=30, ask=Permission.HUMAN, key=run.host_key
    ) as client:
        assert client.grant == Permission.POLICY | Permission.HUMAN
        snapshot, _ = client.reset(3)
        modes = []
        for seq in range(3):
            snapshot = client.step(ask(snapshot, seq, Authority.HUMAN))
            modes.append(snapshot.mode)
        assert Mode.HUMAN in modes
        with pytest.raises(NotGranted, match="SCRIPT, which is the host's own"):
            client.step(ask(snapshot, 3, Authority.SCRIPT))
        snapshot = client.step(ask(snapshot, 3, Authority.POLICY))
        assert snapshot.request_seq == 3
        with pytest.raises(NotGranted, match="takes RECOVER"):
            client.recover()


def test_a_grant_is_asked_for_when_connecting_and_not_later(run):
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        client.reset(3)
        with pytest.raises(NotGranted, match="before the first episode"):
            client._call(
                messages.CLAIM, {"key": read_key(run.host_key), "ask": int(Permission.HUMAN)}
            )
        with pytest.raises(NotGranted, match="asks as HUMAN"):
            client.step(ask(client.peek(), 0, Authority.HUMAN))


def test_a_wrong_key_lets_nobody_in_and_keeps_nobody_out(run, tmp_path):
    wrong = tmp_path / "host.key"
    wrong.write_text("0" * 64)
    for path, words in ((wrong, "not this host's"), (tmp_path / "none", "can't read")):
        with pytest.raises(NotGranted, match=words):
            HostClient.connect(run.id, TASK, deadline=30, ask=Permission.HUMAN, key=path)
    with pytest.raises(NotGranted, match="takes the host's key"):
        HostClient.connect(run.id, TASK, deadline=30, ask=Permission.HUMAN)
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        client.reset(3)


@pytest.mark.slow
def test_a_run_without_a_person_grants_nobody_a_person_s_authority(tmp_path):
    with hosted(tmp_path / "run") as run:
        with pytest.raises(NotGranted, match=r"set \[host\] human = true"):
            HostClient.connect(run.id, TASK, deadline=30, ask=Permission.HUMAN, key=run.host_key)
        with HostClient.connect(
            run.id, deadline=30, ask=Permission.RECOVER, key=run.host_key
        ) as client:
            assert client.grant == Permission.POLICY | Permission.RECOVER


STRANGER = """
import os, socket, sys
from robot_env.host import messages
key, run_id, user = sys.argv[1:]
os.setgroups([]), os.setgid(int(user)), os.setuid(int(user))
try:
    open(key).read()
except PermissionError:
    print("no key; ", end="")
conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
conn.settimeout(20.0)
conn.connect(messages.address(run_id))
kind, payload, fd = messages.receive(conn)
print(kind, fd, payload)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_kernel_s_word_and_cannot_read_the_key(run):
    command = [sys.executable, "-c", STRANGER, str(run.host_key), run.id, str(NOBODY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        text, _ = child.communicate(timeout=60)
    assert text.startswith("no key; b'e' None")
    assert f"process {child.pid} is user {NOBODY}'s" in text
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        client.reset(3)


def test_two_writers_are_one_too_many_and_the_first_one_keeps_the_arm(run):
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        snapshot, _ = client.reset(3)
        with pytest.raises(DeviceLost, match=f"process {os.getpid()} has authority"):
            HostClient.connect(run.id, deadline=0.2)
        with pytest.raises(DeviceLost, match="has authority"):
            HostClient.connect(run.id, deadline=0.2, ask=Permission.RECOVER, key=run.host_key)
        assert client.step(ask(snapshot, 0, Authority.POLICY)).request_seq == 0


def test_who_lost_its_authority_writes_where_nobody_reads(run):
    first = HostClient.connect(run.id, TASK, deadline=30)
    snapshot, _ = first.reset(3)
    memory = first._segment
    first.close()
    with HostClient.connect(run.id, TASK, deadline=30) as second:
        snapshot, _ = second.reset(3)
        for seq in range(20):
            memory.request.write(ask(snapshot, seq, Authority.POLICY).pack())
            memory.beat()
            time.sleep(0.01)
        assert second.peek().request_seq == -1
        assert second.peek().mode == Mode.HOLDING
        assert second.refused == 0


def test_counts_that_a_client_wrote_over_do_not_stop_the_host(run):
    last = np.uint64(2**64 - 1)
    with HostClient.connect(run.id, TASK, deadline=30) as client:
        snapshot, _ = client.reset(3)
        memory = client._segment
        memory._header[2:] = last
        for block in (memory.snapshot, memory.goal_estimate):
            block._head[:] = last
        bad = ask(snapshot, 0, Authority.HUMAN)
        memory.request.write(bad.pack())
        if client.realtime:
            time.sleep(0.1)
        else:
            with pytest.raises(NotGranted):
                client._call(messages.STEP)
        assert client.refused == 1
        memory.request.write(bad._replace(authority=0, position=np.full(3, np.nan)).pack())
        if client.realtime:
            time.sleep(0.1)
        else:
            with pytest.raises(ProtocolMismatch):
                client._call(messages.STEP)
        assert client.refused == 2
        assert client.step(ask(snapshot, 0, Authority.POLICY)).request_seq == 0
