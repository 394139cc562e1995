"""The next minibatches: drawn, gathered and sent while the update before them still runs.

A compiled call returns before it has run. Its minibatches are written into one of two buffers; the
other one may still be read by the call before. So at most two calls are on the way, and the host
works one call ahead of the device. What is drawn for update n depends on the seed, on n and on the
rows held at that moment, never on how far the device has come.

On a CPU this hides little: drawing takes a hundredth of an update's time or two, and takes it from
the same cores (`overlap` of `python benchmarks/update.py`).
"""

from __future__ import annotations

import jax
import numpy as np

from learner.algo.batch import Resident, Rows, Slots
from learner.algo.update import UpdateContext
from learner.config import LearnerConfig
from learner.data.device_replay import DeviceReplay
from learner.data.replay import Replay
from learner.data.sharding import DeviceMesh
from learner.nets.normaliser import Normaliser

AHEAD = 2  # calls on the way at most, each with its own buffers


class Prefetcher:
    """Owns the buffers between replay and device."""

    def __init__(
        self, config: LearnerConfig, replay: Replay, devices: DeviceMesh, key: jax.Array, seed: int
    ) -> None:
        self._config, self._replay, self._devices, self._seed = config, replay, devices, seed
        shape = (config.batch, config.actor_every)
        self._device_replay = DeviceReplay(replay, devices) if config.replay == "device" else None
        empty = replay.empty_rows if self._device_replay is None else replay.empty_slots
        self._buffers: list[Rows | Slots] = [empty(*shape) for _ in range(AHEAD)]
        self._readers: list[jax.Array | None] = [None] * AHEAD
        self._turn = 0
        self.key = devices.replicate(key)
        self._normaliser: Normaliser | None = None
        self._fixed: UpdateContext | None = None
        self._gains = (np.float32(np.nan), np.float32(np.nan))
        self.sent = {"sent_copies": 0.0, "sent_bytes": 0.0}  # to the device, per update
        devices.take_counts()

    def packed(self, update: int) -> Rows | Resident:
        """Return the minibatches of the compiled call that begins with an update.

        Args:
            update: Number of updates before it.

        Raises:
            Error: There is nothing to sample from.
        """
        reader = self._readers[self._turn]
        if reader is not None:
            reader.block_until_ready()
        rng = np.random.default_rng((self._seed, 4, update))
        size, block = self._config.batch, self._config.actor_every
        out = self._buffers[self._turn]
        if isinstance(out, Rows):
            rows = self._replay.sample(size, rng, block, out)
            return Rows(*map(self._devices.shard_batch, rows))
        assert self._device_replay is not None
        slots = self._replay.sample_slots(size, rng, block, out)
        return Resident(self._device_replay.rows(), Slots(*map(self._devices.shard_batch, slots)))

    def used_by(self, result: jax.Array) -> None:
        """Take note of a result of the call that the last minibatches went into."""
        copies, total = self._devices.take_counts()
        block = self._config.actor_every
        self.sent = {"sent_copies": copies / block, "sent_bytes": total / block}
        self._readers[self._turn] = result
        self._turn = (self._turn + 1) % AHEAD

    def fixed(self, normaliser: Normaliser, gain: float, train_gain: float) -> UpdateContext:
        """Return what an update reads and doesn't change; sent only when it has changed."""
        gains = (np.float32(gain), np.float32(train_gain))
        if self._fixed is None or normaliser is not self._normaliser:
            sent = self._devices.replicate((normaliser, *gains))
            self._fixed = UpdateContext(self.key, *sent)
            self._normaliser = normaliser
        elif gains != self._gains:
            acting, training = self._devices.replicate(gains)
            self._fixed = self._fixed._replace(gain=acting, train_gain=training)
        self._gains = gains
        return self._fixed
