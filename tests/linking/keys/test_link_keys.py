"""Who gets through the link's doors: keys that are right, wrong, stolen, changed and revoked."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq
from made_keys import Actor, Learner, free_ports, keys, new_host, opened
from made_link import SPEC, blob, until

from handrail.errors import ConfigError, LinkTimeout
from handrail.keys import files
from handrail.keys.host_keys import REREAD_S, HostKeys
from handrail.link import wire
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcClient, RpcServer
from handrail.link.wire import Hello
from handrail.link.zap import DOMAIN, answer_zap
from learner.store.store import Store


class Hosts(NamedTuple):
    """A learner and a robot that know each other."""

    learner: Path
    robot: Path
    learner_key: str
    robot_key: str


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    learner, robot = tmp_path / "learner", tmp_path / "robot"
    found = Hosts(learner, robot, new_host(learner), new_host(robot))
    keys(learner, "allow", "robot", found.robot_key)
    keys(robot, "allow", "learner", found.learner_key)
    return found


pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def ask(learner: Learner, actor: Actor, timeout_s: float = 10.0) -> dict[str, object]:
    """Return the answer to a request, while the learner serves."""
    done = threading.Event()
    server = threading.Thread(target=lambda: [learner.serve() for _ in iter(done.is_set, True)])
    server.start()
    try:
        return actor.requests.call("status", timeout_s=timeout_s)
    finally:
        done.set()
        server.join()


def deliver(learner: Learner, actor: Actor, rows: range) -> None:
    """Bring rows into the store."""
    for t in rows:
        actor.spool.append(blob(t))
    until(lambda: learner.serve() or len(learner.store) == rows.stop)
    until(lambda: learner.serve() or actor.sender.status().depth == 0)


def newest(learner: Learner, actor: Actor, version: int) -> int:
    """Publish a version and return what the actor gets."""
    learner.broadcast.publish("policy", {"version": version}, {})
    meta, _ = until(lambda: actor.weights.latest("policy"))
    return meta["version"]


def test_hosts_that_list_each_other_use_all_three_flows(hosts: Hosts, tmp_path: Path) -> None:
    where = free_ports()
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
    ) as (learner, actor):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        deliver(learner, actor, range(500))
        assert newest(learner, actor, 1) == 1
        assert ask(learner, actor) == {"alive": True}
        assert [row.t for _, row in learner.store.rows()] == list(range(500))


@pytest.mark.parametrize("stranger", ["no key", "wrong key", "stolen public key", "wrong server"])
def test_a_stranger_gets_nothing_and_leaves_nothing(
    hosts: Hosts, tmp_path: Path, stranger: str
) -> None:
    """Each tries all three flows for a while, as a client that speaks the protocol well."""
    where = free_ports()
    thief = new_host(tmp_path / "thief")
    thief_pair = files.read_pair(tmp_path / "thief")
    context = zmq.Context()
    with opened(Learner(tmp_path, where, HostKeys(hosts.learner))) as (learner,):
        socks = []
        for kind, address in zip((zmq.DEALER, zmq.SUB, zmq.DEALER), where, strict=True):
            sock = context.socket(kind)
            sock.linger = 0
            if stranger != "no key":
                stolen = stranger == "stolen public key"
                sock.curve_publickey = bytes.fromhex(hosts.robot_key if stolen else thief)
                sock.curve_secretkey = bytes.fromhex(thief_pair.secret)
                server = thief if stranger == "wrong server" else hosts.learner_key
                sock.curve_serverkey = bytes.fromhex(server)
            if kind == zmq.SUB:
                sock.subscribe(b"")
            sock.connect(address)
            socks.append(sock)
        hello = Hello("arm", "s", "toy", SPEC.task_hash, SPEC.hash, 1, {"s": 1})
        learner.broadcast.publish("policy", {"version": 1}, {})
        for _ in range(60):
            for sock, message in (
                (socks[0], [wire.dump(hello)]),
                (socks[0], [wire.dump(wire.Rows(1, "s", 1, 1, [len(blob(0))])), blob(0)]),
                (socks[2], [wire.dump(wire.Request(1, "status", {}))]),
            ):
                with contextlib.suppress(zmq.Again):
                    sock.send_multipart(message, zmq.NOBLOCK)
            learner.serve()
            assert not any(sock.poll(2) for sock in socks)
        assert len(learner.store) == 0
        assert learner.store.last_durable("s") == 0
        assert learner.stream.refused == 0  # nothing of it came as far as the decoder
        assert learner.stream.actors == {}
    context.destroy(linger=0)


@pytest.mark.slow
def test_without_an_answerer_nobody_is_let_in(hosts: Hosts, tmp_path: Path) -> None:
    """libzmq's own default is the opposite: whoever knows the public key comes in."""
    (where, *_) = free_ports()
    with (
        RpcServer(where, {"status": lambda _: {}}, HostKeys(hosts.learner)) as server,
        RpcClient(where, keys=HostKeys(hosts.robot)) as client,
    ):
        server._server._authenticator._zap.unbind("inproc://zeromq.zap.01")
        with pytest.raises(LinkTimeout, match="nobody listens"):
            client.call("status", timeout_s=1.5)


@pytest.mark.slow
def test_a_revoked_host_is_cut_off_with_its_connections_open(hosts: Hosts, tmp_path: Path) -> None:
    where = free_ports()
    other = new_host(tmp_path / "other")
    keys(tmp_path / "other", "allow", "learner", hosts.learner_key)
    keys(hosts.learner, "allow", "other", other)
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
        Actor(tmp_path, where, HostKeys(tmp_path / "other"), "other"),
    ) as (learner, actor, friend):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        assert isinstance(friend, Actor)
        deliver(learner, actor, range(10))
        assert newest(learner, actor, 1) == 1
        assert ask(learner, actor) == {"alive": True}
        # What it had sent before it was revoked waits in the learner's socket, untaken.
        for t in range(10, 20):
            actor.spool.append(blob(t))
        until(lambda: actor.sender.status().unacked_bytes)
        keys(hosts.learner, "revoke", "robot")
        time.sleep(2 * REREAD_S)  # the files are looked at this often
        friend.spool.append(blob(99))
        until(lambda: learner.serve() or friend.sender.status().depth == 0)
        until(lambda: learner.serve() or not actor.sender.status().connected)
        learner.broadcast.publish("policy", {"version": 2}, {})
        until(lambda: (friend.weights.latest("policy") or [{}])[0].get("version") == 2)
        assert actor.weights.latest("policy") is None
        with pytest.raises(LinkTimeout):
            ask(learner, actor, 1.0)
        assert ask(learner, friend) == {"alive": True}
        assert actor.weights.latest("policy") is None
        assert len(learner.store) == 11
        assert actor.sender.status().depth == 10
        # Nothing was lost: let in again, it goes on.
        keys(hosts.learner, "allow", "robot", hosts.robot_key)
        until(lambda: learner.serve() or actor.sender.status().depth == 0)
        assert len(learner.store) == 21
        assert until(lambda: actor.weights.latest("policy"))[0]["version"] == 2


@pytest.mark.slow
def test_a_host_is_let_in_without_a_restart(hosts: Hosts, tmp_path: Path) -> None:
    where = free_ports()
    keys(hosts.learner, "revoke", hosts.robot_key)
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
    ) as (learner, actor):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        actor.spool.append(blob(0))
        until(lambda: learner.serve() or learner.stream._server._authenticator.unknown_keys > 1)
        assert len(learner.store) == 0
        keys(hosts.learner, "allow", "robot", hosts.robot_key)
        deliver(learner, actor, range(1, 2))


@pytest.mark.parametrize("side", ["learner", "robot"])
def test_a_host_changes_its_key_while_all_run_and_nothing_is_lost(
    hosts: Hosts, tmp_path: Path, side: str
) -> None:
    where = free_ports()
    own, other = (hosts.learner, hosts.robot)[:: 1 if side == "learner" else -1]
    old = files.read_pair(own).public
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
    ) as (learner, actor):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        deliver(learner, actor, range(10))
        keys(own, "rotate")
        new = files.read_pair(own, files.NEXT).public
        keys(other, "allow", side, new)
        deliver(learner, actor, range(10, 20))  # the old key is good until the new one is in use
        keys(own, "rotate", "--finish")
        deliver(learner, actor, range(20, 30))
        keys(other, "revoke", old)
        deliver(learner, actor, range(30, 40))
        assert newest(learner, actor, 1) == 1
        assert ask(learner, actor) == {"alive": True}
        assert files.read_pair(own).public == new != old
        assert [row.t for _, row in learner.store.rows()] == list(range(40))


@pytest.mark.slow
def test_a_learner_that_lost_its_key_is_trusted_again_once_the_new_one_is_listed(
    hosts: Hosts, tmp_path: Path
) -> None:
    """Without a grace period rows wait in the spool; nothing else is lost."""
    where = free_ports()
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
    ) as (learner, actor):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        deliver(learner, actor, range(10))
        keys(hosts.learner, "rotate", "--now")
        until(lambda: learner.serve() or not actor.sender.status().connected)
        actor.spool.append(blob(10))
        for _ in range(30):
            learner.serve()
        assert len(learner.store) == 10
        keys(hosts.robot, "allow", "learner", files.read_pair(hosts.learner).public)
        keys(hosts.robot, "revoke", hosts.learner_key)
        until(lambda: learner.serve() or actor.sender.status().depth == 0)
        assert [row.t for _, row in learner.store.rows()] == list(range(11))


@pytest.mark.slow
def test_a_list_that_others_may_change_lets_nobody_in(hosts: Hosts, tmp_path: Path) -> None:
    where = free_ports()
    with opened(
        Learner(tmp_path, where, HostKeys(hosts.learner)),
        Actor(tmp_path, where, HostKeys(hosts.robot)),
    ) as (learner, actor):
        assert isinstance(learner, Learner)
        assert isinstance(actor, Actor)
        deliver(learner, actor, range(3))
        (hosts.learner / files.ALLOWED).chmod(0o666)
        until(lambda: learner.serve() or not actor.sender.status().connected)
        (hosts.learner / files.ALLOWED).chmod(0o600)
        deliver(learner, actor, range(3, 6))


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "[::]", "192.0.2.1", "robot.example"])
def test_another_host_is_never_served_without_keys(tmp_path: Path, host: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        pytest.raises(ConfigError, match=r"without keys.*handrail keys new"),
    ):
        StreamReceiver(f"tcp://{host}:5770", store, SPEC)


def test_a_client_that_does_not_know_the_learner_says_what_to_run(
    hosts: Hosts, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="handrail keys allow gpu KEY"):
        RpcClient(free_ports()[0], keys=HostKeys(hosts.robot), learner="gpu")


QUESTION = [b"1.0", b"7", DOMAIN, b"192.0.2.1", b"", b"CURVE", bytes(32)]


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, b"2.0"), (2, b""), (2, b"global"), (5, b"NULL"), (5, b"PLAIN"), (6, bytes(31) + b"\1")],
)
def test_only_a_listed_key_in_our_domain_is_let_in(position: int, value: bytes) -> None:
    names = {bytes(32).hex(): "robot"}
    assert answer_zap(QUESTION, names)[0][2:5] == [b"200", b"", bytes(32).hex().encode()]
    question = [*QUESTION[:position], value, *QUESTION[position + 1 :]]
    assert answer_zap(question, names)[0][2:5] == [b"300", b"", b""]


@pytest.mark.parametrize("length", range(9))
def test_a_question_of_another_length_is_refused(length: int) -> None:
    question = [*QUESTION, b"more"][:length]
    reply = answer_zap(question, {bytes(32).hex(): "robot"})[0]
    assert (reply[2] == b"200") == (length == 7)
    assert len(reply) == 6
