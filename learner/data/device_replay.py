"""The replay's rows on the device, so that an update needs only their numbers from the host."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from learner.data.replay import Replay
from learner.data.sharding import DeviceMesh

CHUNK = 64  # [rows], sent at once; one shape, so that it is compiled once


class DeviceReplay:
    """A copy of `Replay.rows` on the device, brought up to date before each use."""

    def __init__(self, replay: Replay, devices: DeviceMesh) -> None:
        self._replay = replay
        self._devices = devices
        self._rows: jax.Array | None = None
        write = partial(jax.jit, donate_argnums=0, out_shardings=devices.replicated)
        self._write = write(_write)

    def rows(self) -> jax.Array:
        """Return the rows (capacity, columns), after sending those that changed.

        The array is good until the next call, which reuses its memory.
        """
        replay, rows = self._replay, self._rows
        changed = np.flatnonzero(replay.changed)
        if rows is None:
            rows = self._devices.replicate(replay.rows)
        else:
            for first in range(0, len(changed), CHUNK):
                slots = np.resize(changed[first : first + CHUNK], CHUNK).astype(np.int32)
                rows = self._write(rows, *self._devices.replicate((slots, replay.rows[slots])))
        replay.changed[changed] = False
        self._rows = rows
        return rows


def _write(rows: jax.Array, slots: jax.Array, values: jax.Array) -> jax.Array:
    return rows.at[slots].set(values, mode="promise_in_bounds")
