"""What the control process asks of the system: class, locked memory, a core, deadlines."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from typing import NamedTuple

_PR_SET_TIMERSLACK = 29
_MCL = 1 | 2 | 4  # MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT: what was touched once stays
_TIMER_ABSTIME = 1
_DMA_LATENCY = "/dev/cpu_dma_latency"
_LONGEST_LAG = 100  # [ticks] caught up at once; a longer stall is counted and left behind

_libc = ctypes.CDLL(None, use_errno=True)


class RtPrivileges(NamedTuple):
    """What the system gave a control loop; each refusal says what it means, and the remedy."""

    granted: list[str]
    refused: list[str]


def acquire_rt_privileges(priority: int, core: int) -> RtPrivileges:
    """Ask for what a 1 kHz loop wants; the calling thread gets it, its children do not.

    A collection of garbage can take milliseconds: everything that is alive now is frozen and the
    collector is turned off; the loop makes no cycles.

    Args:
        priority: SCHED_FIFO priority, 0 for none.
        core: Core to keep to, -1 for any.
    """
    granted, refused = [], []
    if core >= 0:
        try:
            os.sched_setaffinity(0, {core})
            granted.append(f"core {core}")
        except (OSError, ValueError) as error:
            refused.append(
                f"core {core} ({error}; this process may use {_cores()}): the loop moves between "
                f"cores and waits for what runs there"
            )
    if priority > 0:
        try:
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(priority))
            granted.append(f"SCHED_FIFO {priority}")
        except OSError:
            refused.append(
                f"SCHED_FIFO {priority} (allow `rtprio {priority}` in /etc/security/limits.conf): "
                f"any busy program can make a tick late by milliseconds"
            )
        try:
            _stay_awake()
            granted.append("cores that stay awake")
        except OSError as error:
            refused.append(
                f"cores that stay awake ({_DMA_LATENCY}: {error.strerror}; give that device to "
                f"your group): an idle core may wake up 0.1 ms late"
            )
    if _libc.mlockall(_MCL) == 0:
        granted.append("locked memory")
    else:
        refused.append(
            "locked memory (allow `memlock unlimited` in /etc/security/limits.conf): memory that "
            "was swapped out makes a tick late by as long as the disk takes"
        )
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.collect()
    gc.freeze()
    gc.disable()
    return RtPrivileges(granted, refused)


def _stay_awake() -> None:
    """Ask the kernel for no latency on waking up, for as long as this process lives."""
    fd = os.open(_DMA_LATENCY, os.O_WRONLY | os.O_CLOEXEC)  # closing it would end the request
    os.write(fd, bytes(4))


def _cores() -> str:
    return ", ".join(map(str, sorted(os.sched_getaffinity(0))))


class PeriodicTimer:
    """Deadlines at a fixed distance on the monotonic clock; lateness doesn't add up."""

    def __init__(self, period: float) -> None:
        """Begin now.

        Args:
            period: Distance of the deadlines [s].
        """
        self._period = round(period * 1e9)  # [ns]
        self._time = _Timespec()
        self.late = 0  # deadlines that had passed before their tick could begin
        self.missed = 0  # of them before the newest tick
        self.woke = time.monotonic_ns()  # [ns], when `wait` returned
        self.restart()

    def restart(self) -> None:
        """Begin again now, without counting what was missed."""
        self._next = time.monotonic_ns() + self._period

    @property
    def due(self) -> int:
        """The next deadline, on the monotonic clock [ns]."""
        return self._next

    def wait(self) -> int:
        """Sleep until the next deadline and return how many periods are due, at least 1.

        More than one are due after a stall; of a stall of more than 100 the rest is left behind.
        """
        self._time.tv_sec, self._time.tv_nsec = divmod(self._next, 1_000_000_000)
        while (
            _libc.clock_nanosleep(
                time.CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(self._time), None
            )
            != 0
        ):
            continue  # a signal came; the deadline is absolute
        self.woke = time.monotonic_ns()
        self.missed = (self.woke - self._next) // self._period
        self._next += (self.missed + 1) * self._period
        self.late += self.missed
        return 1 + min(self.missed, _LONGEST_LAG)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))
