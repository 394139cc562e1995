"""A flood of connections: descriptors stay bounded and those who have keys are served."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from made_keys import Actor, Learner, free_ports, keys, new_host
from made_link import blob, until

from handrail.keys.connection_limits import COMING, ConnectionLimits
from handrail.keys.host_keys import HostKeys
from handrail.rate_limit import RateLimit

# Opens connections from an address of its own as fast as it can; every other one sends the
# beginning of a handshake. What the other side closes is opened anew.
FLOOD = textwrap.dedent(
    """
    import select, socket, sys, time
    source, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    greeting = bytes([255, 0, 0, 0, 0, 0, 0, 0, 1, 127, 3, 0]) + b"CURVE".ljust(20, bytes(1))
    held, most, end, number = [], 0, time.monotonic() + float(sys.argv[4]), 0
    while time.monotonic() < end:
        while len(held) < count:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((source, 0))
            sock.connect_ex(("127.0.0.1", port))
            held.append((sock, number))
            number += 1
        time.sleep(0.02)
        alive = []
        for sock, n in held:
            try:
                if n >= 0 and n % 2:
                    sock.send(greeting + bytes(32) * (n % 3))
                    n = -1
                if sock.recv(65536) == b"":
                    raise ConnectionError
            except BlockingIOError:
                pass
            except OSError:
                sock.close()
                continue
            alive.append((sock, n))
        held = alive
    print(number)
    """
)


def held_by(source: str, port: int) -> int:
    """Return how many connections of a source to a port of this host the kernel has open."""
    local = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}:{port:04X}"
    remote = f"{int.from_bytes(socket.inet_aton(source), sys.byteorder):08X}:"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        line[1] == local and line[2].startswith(remote) and line[3] == "01" for line in lines
    )


@pytest.mark.long
@pytest.mark.wallclock
def test_under_a_flood_an_allowed_actor_is_served_and_the_flood_keeps_to_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConnectionLimits.__init__, "__defaults__", (40, 100, COMING))
    learner_key, robot_key = new_host(tmp_path / "learner"), new_host(tmp_path / "robot")
    keys(tmp_path / "learner", "allow", "robot", robot_key)
    keys(tmp_path / "robot", "allow", "learner", learner_key)
    where = free_ports()
    port = str(urlsplit(where[0]).port)
    with contextlib.ExitStack() as stack:
        learner = Learner(tmp_path, where, HostKeys(tmp_path / "learner"))
        stack.callback(learner.close)
        flood = subprocess.Popen(
            [sys.executable, "-c", FLOOD, "127.0.0.2", port, "400", "10"],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(flood.wait)
        stack.callback(flood.kill)
        until(lambda: learner.serve() or learner.stream._server._authenticator.limits.held >= 40)
        actor = Actor(tmp_path, where, HostKeys(tmp_path / "robot"))  # it comes in mid-flood
        stack.callback(actor.close)
        began, held, sent = time.monotonic(), [], 0
        while flood.poll() is None:
            actor.spool.append(blob(sent))
            sent += 1
            learner.serve()
            if time.monotonic() - began > 5.0:  # those that prove nothing are cut off after 3 s
                held.append(held_by("127.0.0.2", int(port)))
            time.sleep(0.005)
        during = len(learner.store)
        assert flood.stdout is not None
        with flood.stdout:
            tried = int(flood.stdout.read())
        assert tried >= 400
        # libzmq takes a burst before it can be counted, at first and whenever the source is let in
        # again; in between the source keeps to its share, but for what the kernel had completed
        usual = statistics.median(held)
        assert 0 < usual <= 40 + 30, f"{usual} connections of one source, {tried} tried"
        assert during > 0
        until(lambda: learner.serve() or len(learner.store) == sent)
        assert [row.t for _, row in learner.store.rows()] == list(range(sent))


class Listener:
    """A listening socket whose connections are counted as libzmq's are, and clients of it."""

    def __init__(self, limits: ConnectionLimits, family: socket.AddressFamily = socket.AF_INET):
        self.limits, self.family = limits, family
        self.host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self.listening = socket.create_server((self.host, 0), family=family)
        self.made: list[socket.socket] = []

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self.made, self.listening):
            sock.close()

    def stays(self, source: str) -> bool:
        """Connect from an address; return whether the connection is left open."""
        sock = socket.socket(self.family)
        sock.bind((source, 0))
        sock.connect(self.listening.getsockname()[:2])
        accepted, _ = self.listening.accept()
        self.made += [sock, accepted]
        self.limits.opened(accepted.fileno())
        sock.settimeout(0.1)
        try:
            cut = sock.recv(1) == b""
        except TimeoutError:
            return True
        assert cut
        assert accepted.fileno() > 0  # its owner closes it, nobody else
        self.limits.closed(accepted.fileno())
        return False


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_address_that_holds_its_share_gets_no_more_and_others_do(
    family: socket.AddressFamily,
) -> None:
    limits = ConnectionLimits(per_address=2, total=50)
    with Listener(limits, family) as server:
        assert server.stays(server.host)
        assert server.stays(server.host)
        assert not server.stays(server.host)
        assert limits.held == 2
        if family == socket.AF_INET:
            assert server.stays("127.0.0.9")
        limits.closed(server.made[1].fileno())
        assert server.stays(server.host)
        limits.reset()
        assert limits.held == 0
        assert server.stays(server.host)


def test_with_too_many_in_all_nobody_gets_in() -> None:
    limits = ConnectionLimits(total=8)
    with Listener(limits) as server:
        assert [server.stays(f"127.0.0.{n}") for n in range(2, 12)] == [True] * 8 + [False] * 2
        limits.closed(server.made[1].fileno())
        assert server.stays("127.0.0.12")


def test_a_host_that_comes_and_goes_too_fast_pauses() -> None:
    """Each connection costs the learner some time, however soon it goes."""
    limits = ConnectionLimits(coming=RateLimit(rate=0.5, burst=4.0))
    with Listener(limits) as server:
        came = []
        for _ in range(8):
            came.append(server.stays("127.0.0.7"))
            limits.closed(server.made[-1].fileno())
        assert came[:4] == [True] * 4
        assert not all(came)
        assert server.stays("127.0.0.8")
        until(lambda: server.stays("127.0.0.7"))


def test_what_is_no_connection_any_more_is_not_cut(tmp_path: Path) -> None:
    """libzmq may have closed it, and its descriptor be a file's by now."""
    limits = ConnectionLimits(total=8)
    with (tmp_path / "file").open("w") as file:
        descriptors = len(os.listdir("/proc/self/fd"))
        limits.opened(file.fileno())
        file.write("whole")
    limits.opened(file_number_that_is_closed := 9999)
    limits.closed(file_number_that_is_closed)
    assert limits.held == 0
    assert (tmp_path / "file").read_text() == "whole"
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1


def test_a_learner_may_open_more_files_than_a_burst_takes() -> None:
    code = """
        import resource
        from handrail.process import raise_fd_limit
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        print(raise_fd_limit(300), *resource.getrlimit(resource.RLIMIT_NOFILE), hard)
        print(raise_fd_limit(100), raise_fd_limit(1 << 40) <= hard)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    now, soft, hard, hard_before = map(int, first.split())
    assert (now, soft, hard) == (300, 300, hard_before)
    assert second == "300 True"
