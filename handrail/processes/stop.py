"""Stopping on request: an event that signals set, and waits that look at it.

A process all of whose writes survive a kill ends by itself within `STOP_WITHIN` of the signal, also
out of a call that no handler interrupts, as when a compiler runs: what it was computing is computed
again by whoever goes on. It waits longer only while it saves data. A second signal ends it at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from handrail.errors import LinkTimeout
from handrail.processes.exit_record import is_saving

INTERRUPTED = 130  # exit code after Ctrl-C
STOP_WITHIN = 1.5  # [s], from a signal to the end of a process
SAVE_WITHIN = 30.0  # [s], the same where data is being saved
SAY_AFTER = 3.0  # [s], a wait is told of
SAY_EVERY = 15.0  # [s], and again
_STOPS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """Somebody asked the run to stop; it can be resumed."""


@contextlib.contextmanager
def stop_on_signals(ends: bool = False) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets; the previous handlers come back at the end.

    Args:
        ends: End this process where it doesn't end by itself in time; only for one whose writes
            survive a kill.
    """
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if stop.is_set():
            end_at_once("ended at once by a second signal")
        stop.set()

    previous = {sig: signal.signal(sig, on_signal) for sig in _STOPS}
    try:
        with _watch() if ends else contextlib.nullcontext():
            yield stop
    finally:
        for sig, handler in previous.items():
            signal.signal(sig, handler)
        if stop.is_set():
            gc.freeze()  # Python would go through all that libraries made, seconds long, to end


def end_at_once(why: str) -> None:
    """End this process without any clearing up, with a line."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{why}\n".encode())
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def _watch() -> Iterator[None]:
    """Have a thread end this process some time after a signal; the kernel tells it of signals."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_in_time, args=(reader,), name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()  # the thread reads the end and is done
        thread.join()
        reader.close()


def _end_in_time(reader: socket.socket) -> None:
    asked_at, told = None, False
    while True:
        if asked_at is None:
            reader.settimeout(None)
        else:
            limit = SAVE_WITHIN if is_saving() else STOP_WITHIN
            left = asked_at + limit - time.monotonic()
            if left <= 0:
                end_at_once("stopped in the middle of its work; what it had saved is kept")
            if is_saving() and not told:
                told = True
                print("stopping: data is being saved", file=sys.stderr, flush=True)
            reader.settimeout(min(left, 0.1))
        try:
            data = reader.recv(64)
        except TimeoutError:
            continue
        if not data:
            return
        stops = sum(number in _STOPS for number in data)
        if stops and asked_at is not None:
            end_at_once("ended at once by a second signal")
        if stops:
            asked_at = time.monotonic()


class Wait:
    """One wait: it looks at the stop request, has a deadline, and says what is awaited."""

    def __init__(
        self,
        what: str,
        deadline_s: float,
        stop: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        """Begin to wait.

        Args:
            what: Is awaited, as in "waiting for WHAT".
            deadline_s: How long, at most [s].
            stop: Returns True once the run is to stop.
            say: Takes a line for people.
        """
        self._what, self._deadline_s, self._stop, self._say = what, deadline_s, stop, say
        self._begun = time.monotonic()
        self._say_at = self._begun + SAY_AFTER

    def again(self) -> None:
        """Begin anew: something has happened."""
        self._begun = time.monotonic()

    def check(self, more: str = "") -> None:
        """Return where it is worth waiting on.

        Args:
            more: What else is known, for the message at the deadline.

        Raises:
            Stopped: The run is to stop.
            LinkTimeout: The deadline passed; the message says what was awaited.
        """
        if self._stop():
            raise Stopped
        now = time.monotonic()
        waited = now - self._begun
        if waited > self._deadline_s:
            raise LinkTimeout(f"waited {waited:.0f} s for {self._what}, in vain{more}")
        if now >= self._say_at:
            self._say_at = now + SAY_EVERY
            self._say(f"waiting for {self._what}, {waited:.0f} s so far")
