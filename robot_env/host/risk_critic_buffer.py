"""Where the host keeps the risk critic: two buffers, switched between ticks.

A critic is checked and copied into the spare buffer by whoever brings it, in any thread; the
control loop makes it the active one between two ticks, without waiting and without allocating. What
is damaged or not newer never becomes active: the last good one stays.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from handrail.errors import CheckpointError
from handrail.risk_critic.format import MAX_SIZE, check_critic, empty_critic, version_of


class RiskCriticBuffer:
    """The critic in use and the one that comes next."""

    def __init__(self) -> None:
        self.refused = 0  # critics that were damaged
        self.why = ""  # what was wrong with the last of them
        self._lock = threading.Lock()  # on the spare buffer
        self._active = empty_critic()
        self._next: np.ndarray | None = None  # view of the spare buffer, whole and checked
        self._buffers = np.zeros((2, MAX_SIZE), np.float32)
        self._spare = 0

    @property
    def active(self) -> np.ndarray:
        """The packed critic to evaluate in this tick; an empty one before any came."""
        return self._active

    @property
    def version(self) -> int:
        """Version of the active critic, 0 before any came."""
        return version_of(self._active)

    @property
    def newest(self) -> int:
        """Version of the newest critic held, active or next."""
        following = self._next
        return self.version if following is None else version_of(following)

    def offer(self, array: np.ndarray) -> bool:
        """Take a critic for the next switch, from any thread; return whether it is newer.

        Args:
            array: Packed critic from outside; nothing about it is known. It is copied.

        Raises:
            CheckpointError: It is damaged; it is counted, and the last good one stays.
        """
        try:
            check_critic(array)
        except CheckpointError as error:
            self.refused, self.why = self.refused + 1, str(error)
            raise
        with self._lock:
            newest = self._active if self._next is None else self._next
            if version_of(array) <= version_of(newest):
                return False
            spare = self._buffers[self._spare, : array.size]
            spare[:] = array
            self._next = spare
        return True

    def switch(self) -> bool:
        """Make the critic that was offered the active one; return whether there was one.

        Only the control loop calls this, between ticks. While a copy is under way it returns at
        once, and the next tick looks again.
        """
        if self._next is None or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._next is None:
                return False
            self._active, self._next = self._next, None
            self._spare = 1 - self._spare
            return True
        finally:
            self._lock.release()


def send_array(array: np.ndarray) -> int:
    """Return a descriptor of an anonymous file that holds a float32 array; the caller closes it."""
    fd = os.memfd_create("handrail-critic", os.MFD_CLOEXEC)
    try:
        os.write(fd, np.ascontiguousarray(array, np.float32).tobytes())
    except BaseException:
        os.close(fd)
        raise
    return fd


def receive_array(fd: int) -> np.ndarray:
    """Return the float32 array of a descriptor from outside.

    It is read, not mapped: the sender could shrink the file under a mapping.

    Raises:
        CheckpointError: It can't be read, or its size is none of a packed critic.
    """
    try:
        size = os.fstat(fd).st_size
        if size % 4 or not 0 < size <= 4 * MAX_SIZE:
            raise CheckpointError(f"a packed critic has up to {4 * MAX_SIZE} bytes, got {size}")
        data = os.pread(fd, size, 0)
    except OSError as error:
        raise CheckpointError(f"can't read the critic that was sent: {error}") from None
    return np.frombuffer(data[: len(data) // 4 * 4], np.float32)
