"""Log from a control loop without waiting for a disk."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
from collections.abc import Iterator


@contextlib.contextmanager
def logging_in_background() -> Iterator[None]:
    """Have a thread write what is logged until the context ends, when all of it is written.

    A write to a log file may wait for the file system's journal as long as somebody syncs a file,
    and a loop logs when something is wrong already.
    """
    root, lines = logging.getLogger(), queue.SimpleQueue[logging.LogRecord]()
    handlers = root.handlers[:]
    listener = logging.handlers.QueueListener(lines, *handlers)
    root.handlers[:] = [logging.handlers.QueueHandler(lines)]
    listener.start()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        listener.stop()
