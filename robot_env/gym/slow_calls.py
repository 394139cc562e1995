"""Says when a call into an environment doesn't return, while the call goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

SLOW_S = 5.0  # [s], after which a call is said to be slow


class SlowCallWatch:
    """One thread that looks at the call in progress; a call costs two assignments."""

    def __init__(self, say: Callable[[str], None], after: float = SLOW_S) -> None:
        """Begin to watch.

        Args:
            say: Called from the thread, once per call that is slow, with the call's name.
            after: A call is slow after that long [s].
        """
        self._say, self._after = say, after
        self._call: tuple[str, float] | None = None  # name, and when it began
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="slow-calls", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Watch what is done inside, by the name of the call."""
        self._call = (name, time.monotonic())
        try:
            yield
        finally:
            self._call = None

    def close(self) -> None:
        """Stop watching; safe to call twice."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        said = None
        while not self._closed.wait(self._after / 10.0):
            call = self._call
            if call is None or call is said:
                continue
            if time.monotonic() - call[1] >= self._after:
                said = call
                self._say(f"{call[0]} has not returned for {self._after:.0f} s; still waiting")
