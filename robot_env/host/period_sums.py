"""A policy period's sums and peaks, while ticks run one by one."""

from __future__ import annotations

import math

from controllers.robot import Snapshot

_SUMMED = (
    "gated_ticks",
    "torque_limited_ticks",
    "target_limited_ticks",
    "energy_injected",
    "energy_refused",
)
_PEAKS = ("force_peak", "speed_peak")


class PeriodSums:
    """Sums and peaks since the last request."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(_SUMMED, 0.0)
        self._peaks = dict.fromkeys(_PEAKS, 0.0)
        self._square, self._ticks = 0.0, 0

    def add(self, snapshot: Snapshot, ticks: int, begin: bool) -> None:
        """Add some ticks' values, and put the period's so far into their snapshot.

        Args:
            snapshot: Of these ticks alone; changed in place.
            ticks: How many.
            begin: Whether a period begins with them.
        """
        if begin:
            self.__init__()
        for name in _SUMMED:
            self._sums[name] += getattr(snapshot, name)
            setattr(snapshot, name, self._sums[name])
        for name in _PEAKS:
            self._peaks[name] = max(self._peaks[name], getattr(snapshot, name))
            setattr(snapshot, name, self._peaks[name])
        self._square += ticks * snapshot.force_rms**2
        self._ticks += ticks
        snapshot.force_rms = math.sqrt(self._square / self._ticks)
