"""The heartbeat of a client of the robot host."""

from __future__ import annotations

import threading

from robot_env.host.shared_memory import Segment

_BEAT = 0.004  # [s], between heartbeats


class Heartbeat:
    """Beats from a thread of its own, for as long as the process runs."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._stop = segment, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT):
            self._segment.beat()
