"""A learner's three sockets in a process of their own, for `fuzz_learner.py`.

python tests/fuzz_server.py FOLDER STREAM BROADCAST REQUEST [KEYS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_messages import SPEC

from handrail.keys.host import HostKeys
from handrail.transport import Broadcaster, RequestServer, StreamReceiver
from learner.store import Store


def main(folder: str, stream: str, broadcast: str, request: str, keys: str = "") -> None:
    """Serve until killed."""
    host = HostKeys(Path(keys)) if keys else None
    store = Store(Path(folder) / "store.db", SPEC)
    receiver = StreamReceiver(stream, store, SPEC, host)
    broadcaster = Broadcaster(broadcast, host)
    broadcaster.publish("policy", {"version": 1}, {"w": np.ones(3, np.float32)})

    def status(_: dict[str, Any]) -> dict[str, Any]:
        strangers = receiver.kept_out + requests.kept_out
        return {"refused": receiver.refused, "cursor": store.cursor, "kept_out": strangers}

    requests = RequestServer(request, {"status": status}, host)
    print("ready", flush=True)
    while True:
        if not (receiver.poll(0.0005) or requests.poll(0.0)):
            time.sleep(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
