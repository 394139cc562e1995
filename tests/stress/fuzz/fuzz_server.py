"""A learner's three sockets in a process of their own, for `fuzz_learner.py`.

python tests/stress/fuzz/fuzz_server.py FOLDER STREAM BROADCAST REQUEST [KEYS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kit"))

import numpy as np
from fuzz_messages import SPEC

from handrail.keys.host_keys import HostKeys
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcServer
from handrail.link.weights_pubsub import WeightsPublisher
from learner.store.store import Store


def main(folder: str, stream: str, broadcast: str, request: str, keys: str = "") -> None:
    """Serve until killed."""
    host = HostKeys(Path(keys)) if keys else None
    store = Store(Path(folder) / "store.db", SPEC)
    receiver = StreamReceiver(stream, store, SPEC, host)
    broadcaster = WeightsPublisher(broadcast, host)
    broadcaster.publish("policy", {"version": 1}, {"w": np.ones(3, np.float32)})

    def status(_: dict[str, Any]) -> dict[str, Any]:
        strangers = receiver.unauthorised + requests.denied
        return {"refused": receiver.refused, "cursor": store.cursor, "kept_out": strangers}

    requests = RpcServer(request, {"status": status}, host)
    print("ready", flush=True)
    while True:
        if not (receiver.poll(0.0005) or requests.poll(0.0)):
            time.sleep(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
