"""Where the link may listen, and what closing it leaves."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from made_link import SPEC, Side, address, blob, take

from handrail.errors import ConfigError
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcClient, RpcServer
from handrail.link.sender import StreamSender
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from learner.store.store import Store

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("tcp://0.0.0.0:5555", "not on this machine"),
        ("tcp://*:5555", "not on this machine"),
        ("tcp://192.168.1.7:5555", "not on this machine"),
        ("tcp://example.org:5555", "not on this machine"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:99999", "port"),
        ("tcp://127.0.0.1:x", "port"),
        ("udp://127.0.0.1:5555", "must be"),
        ("ipc://", "must be"),
        ("ipc://@" + "x" * 120, "107"),
        ("5555", "must be"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused(tmp_path: Path, bad: str, words: str) -> None:
    with Store(tmp_path / "store.db", SPEC) as store, Spool(tmp_path / "spool.db") as spool:
        for make in (
            lambda: StreamReceiver(bad, store, SPEC),
            lambda: StreamSender(bad, spool, Hello.of("arm", spool.session, SPEC)),
            lambda: WeightsPublisher(bad),
            lambda: WeightsSubscriber(bad),
            lambda: RpcServer(bad, {}),
            lambda: RpcClient(bad),
        ):
            with pytest.raises(ConfigError, match=words):
                make()


@pytest.mark.parametrize("kind", ["abstract", "tcp", "file"])
def test_an_address_in_use_is_named_and_its_owner_undisturbed(
    tmp_path: Path, endpoint: str, kind: str
) -> None:
    endpoint = address(kind, endpoint, tmp_path)
    with RpcServer(endpoint, {"status": lambda p: {"alive": True}}) as server:
        with pytest.raises(ConfigError, match=f"{endpoint}.*in use"):
            RpcServer(endpoint, {})
        with pytest.raises(ConfigError, match=f"{endpoint}.*in use"):
            WeightsPublisher(endpoint)
        timer = threading.Timer(0.05, lambda: server.poll(2.0))
        timer.start()
        with RpcClient(endpoint) as client:
            assert client.call("status") == {"alive": True}
        timer.join()


def test_closing_leaves_no_descriptor(tmp_path: Path, endpoint: str) -> None:
    def cycle() -> int:
        with (
            Store(tmp_path / "store.db", SPEC) as store,
            StreamReceiver(endpoint, store, SPEC) as receiver,
            Side(tmp_path, endpoint) as actor,
            WeightsPublisher(endpoint + "b"),
            WeightsSubscriber(endpoint + "b"),
            RpcServer(endpoint + "r", {}),
            RpcClient(endpoint + "r"),
        ):
            actor.spool.append(blob(0))
            take(receiver, 1)
        return len(os.listdir("/proc/self/fd"))

    first = cycle()
    assert all(cycle() <= first for _ in range(3))
