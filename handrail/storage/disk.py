"""How long the disk will last, from the rate at which it fills; the alarm hours before."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

WINDOW_S = 600.0  # [s], over which the rate is measured
MIN_SPAN_S = 30.0  # [s], of measurement before an alarm is raised by rate
ALARM_HOURS = (24.0, 4.0, 1.0)  # [h], an alarm is raised when no more than this is left
_REARM = 1.25  # [-], an alarm is raised again once this much more was left meanwhile


class DiskStatus(NamedTuple):
    """The state of one disk."""

    free: int  # [B], for an ordinary user
    size: int  # [B]
    rate: float  # [B/s], at which it fills, by whoever writes; 0 or less: it doesn't
    hours: float  # [h], until it is full at this rate; inf if it doesn't fill


def free_space(path: Path) -> tuple[int, int]:
    """Return free and total bytes of the disk that holds a path.

    Raises:
        OSError: It can't be asked.
    """
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


class DiskMonitor:
    """Measures one disk again and again; for one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples: deque[tuple[float, int]] = deque()
        self._raised = len(ALARM_HOURS) * [False]

    def sample(self) -> tuple[DiskStatus, str]:
        """Measure; return the disk's state and the alarm that is due now, "" if none is.

        Raises:
            OSError: The disk can't be asked.
        """
        return self.evaluate(time.monotonic(), *free_space(self.path))

    def evaluate(self, now: float, free: int, size: int) -> tuple[DiskStatus, str]:
        """Do as `sample` does for a given measurement.

        Args:
            now: Monotonic clock [s].
            free: Free bytes [B].
            size: Total bytes [B].
        """
        samples = self._samples
        if not samples or now - samples[-1][0] >= WINDOW_S / 100:
            samples.append((now, free))
        while len(samples) > 2 and now - samples[0][0] > WINDOW_S:
            samples.popleft()
        span = now - samples[0][0]
        rate = (samples[0][1] - free) / span if span > 0 else 0.0
        hours = free / rate / 3600 if rate > 0 else float("inf")
        disk = DiskStatus(free, size, rate, hours)
        if span < MIN_SPAN_S or not self._crossed(hours):
            return disk, ""
        text = f"the disk of {self.path} has {free / 1e9:.1f} GB left of {size / 1e9:.1f} GB"
        text += f", which last {hours:.1f} h at the measured {rate / 1e6:.2f} MB/s"
        return disk, f"{text}: free some space, or `handrail data prune`"

    def _crossed(self, hours: float) -> bool:
        """Return whether a level was crossed downwards since it was last said."""
        new = False
        for index, level in enumerate(ALARM_HOURS):
            if hours <= level:
                new |= not self._raised[index]
                self._raised[index] = True
            elif hours > level * _REARM:
                self._raised[index] = False
        return new
