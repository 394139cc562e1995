"""The process that writes recordings, so that the control loop never waits for a disk.

It begins with the host and outlives it: when the host goes away without a word, this saves what the
ring holds. Orders and answers are lines of JSON on its standard input and output.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handrail.errors import Error, StorageError
from robot_env.recorder.ring_placement import move_to_disk

AFTER_CRASH = "found after a crash"
DIED = "the host died"
_BUSY_FOR = 120.0  # [s], how long somebody else may take to save the same ring


class WriterProcess:
    """The host's handle on that process; a call waits, so it belongs beside the control loop."""

    def __init__(self, ring: Path, folder: Path, keep: int) -> None:
        """Start it; `recover` waits until it is ready.

        Args:
            ring: The ring's file.
            folder: Where recordings go.
            keep: Newest recordings that stay [files].
        """
        self._arguments = (str(ring), str(folder), str(keep))
        self._lock = threading.Lock()
        self._process = self._start("--recover")

    def recover(self) -> Path | None:
        """Return the recording of a ring that a killed host has left, None where there was none.

        Raises:
            StorageError: It could not be saved.
        """
        with self._lock:
            return self._answer()

    def save(self, why: str) -> Path:
        """Have a recording of the last seconds written and return its path.

        Args:
            why: What went wrong; part of the file's name.

        Raises:
            StorageError: It could not be written.
        """
        with self._lock:
            if self._process.poll() is not None:
                self._process = self._start()
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps({"why": why}) + "\n")
                self._process.stdin.flush()
            except OSError as error:
                raise StorageError(f"the process that writes recordings is gone: {error}") from None
            path = self._answer()
        assert path is not None
        return path

    def close(self) -> None:
        """Let it finish; safe to call twice."""
        with self._lock, contextlib.suppress(OSError, subprocess.TimeoutExpired):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(timeout=30.0)
            self._process.stdout.close()

    def _start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "robot_env.recorder.writer_process", *self._arguments, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C is for the host; this ends after it
        )

    def _answer(self) -> Path | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise StorageError("the process that writes recordings died")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise StorageError(reply["error"])
        return Path(reply["path"]) if reply["path"] else None


def main(argv: list[str] | None = None) -> int:
    """Write recordings as they are asked for until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ring", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("keep", type=int)
    parser.add_argument("--recover", action="store_true", help="save what a killed host has left")
    options = parser.parse_args(argv)
    os.nice(10)
    host = os.getppid()
    if options.recover:
        _say(lambda: save_after_crash(options.ring, options.folder, options.keep, AFTER_CRASH))
    for line in sys.stdin:
        why = str(json.loads(line)["why"])
        _say(lambda why=why: _save(options.ring, options.folder, options.keep, why))
    with contextlib.suppress(Error, ModuleNotFoundError):  # the ring stays for the next host
        path = save_after_crash(options.ring, options.folder, options.keep, DIED, host)
        if path is not None:
            print(f"the host died; recording {path}", file=sys.stderr)
    return 0


def save_after_crash(
    ring: Path, folder: Path, keep: int, why: str, host: int | None = None
) -> Path | None:
    """Save the ring of a host that was killed, once; return the recording's path if there is one.

    Args:
        ring: The ring's file.
        folder: Where recordings go.
        keep: Newest recordings that stay [files].
        why: What to call it, unless the host has noted its own exception.
        host: Process id of the host that is meant; None for any.

    Raises:
        StorageError: It could not be saved; it is tried again the next time.
    """
    from robot_env.recorder.mcap_writer import save
    from robot_env.recorder.ring_recovery import left_by_crash, mark_dumped, read_ring

    if not left_by_crash(ring):
        return None
    with _held(ring):
        if not left_by_crash(ring):
            return None
        contents = read_ring(ring)
        if host is not None and contents.pid != host:
            return None
        last = contents.notes[-1].what if contents.notes else ""
        path = save(contents, folder, last if last.startswith("exception ") else why, keep)
        mark_dumped(ring)
        move_to_disk(ring)
    return path


def _save(ring: Path, folder: Path, keep: int, why: str) -> Path:
    from robot_env.recorder.mcap_writer import save
    from robot_env.recorder.ring_recovery import read_ring

    return save(read_ring(ring), folder, why, keep)


def _say(action: Any) -> None:
    try:
        path = action()
        reply = {"path": str(path) if path else None}
    except (Error, ModuleNotFoundError) as error:
        hint = "; pip install 'handrail[recorder]'" if isinstance(error, ImportError) else ""
        reply = {"error": f"{error}{hint}"}
    print(json.dumps(reply), flush=True)


@contextlib.contextmanager
def _held(ring: Path) -> Iterator[None]:
    """Be the only one who saves a ring after a crash."""
    with open(ring, "rb") as file:
        end = time.monotonic() + _BUSY_FOR
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StorageError(f"another process is saving {ring}") from None
                time.sleep(0.05)
        yield


if __name__ == "__main__":
    sys.exit(main())
