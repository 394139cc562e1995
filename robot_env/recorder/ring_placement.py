"""Where a ring's file lives: in memory while a loop in real time writes it, then in the run folder.

A file on a disk is no place for it. The kernel writes dirty pages now and then and protects them
meanwhile; the loop's next write then waits for the file system's journal, and with it for whoever
syncs a file at that moment: 32 ms were measured (docs/recorder.md), and a Franka gives up after 20.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("host")

MEMORY = Path("/dev/shm")  # tmpfs of every Linux


@contextlib.contextmanager
def ring_file(path: Path, size: int, memory: Path | None) -> Iterator[int]:
    """Yield the descriptor of a new file; it takes its place when the context ends well.

    Args:
        path: In the run folder; what is there is replaced, whoever reads that keeps it.
        size: Of the file, whose space is taken now [bytes].
        memory: Folder where the file is, `path` being a link to it; None for a file at `path`.
            Without room there it becomes a file at `path` too, and that is logged.

    Raises:
        OSError: There is no room.
    """
    before = _target(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd, file = -1, temporary
    if memory is not None:
        file = memory / f"handrail-{os.getpid()}-{os.urandom(4).hex()}.ring"
        try:
            fd = _make(file, size)
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(file)
        except OSError as error:
            if fd >= 0:  # there is room, but a link can't be made here
                os.close(fd)
                file.unlink()
                fd = -1
            log.warning(
                "the flight recorder's ring is on a disk, which may make a tick late by 30 ms: "
                "%s can't hold its %.0f MB (%s)", memory, size / 1e6, error.strerror,
            )  # fmt: skip
            file = temporary
    try:
        if fd < 0:
            fd = _make(file, size)
        try:
            yield fd
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        raise
    if before is not None:
        before.unlink(missing_ok=True)


def move_to_disk(path: Path) -> None:
    """Replace a link by the file that it points to; nothing if it is no link.

    Where the disk has no room the link stays, and that is logged.
    """
    file = _target(path)
    if file is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        shutil.copyfile(file, temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        log.warning("the ring stays at %s, until the machine restarts: %s", file, error.strerror)
        return
    file.unlink(missing_ok=True)


def _make(file: Path, size: int) -> int:
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)  # no room shows now, not at a tick
    except OSError:
        os.close(fd)
        file.unlink(missing_ok=True)
        raise
    return fd


def _target(path: Path) -> Path | None:
    """Return the file that a link of ours points to, None if there is none."""
    if not path.is_symlink():
        return None
    file = path.readlink()
    ours = file.name.startswith("handrail-") and file.suffix == ".ring"
    return file if ours and file.is_file() else None
