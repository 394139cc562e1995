"""The devices that an update runs on, and what is copied to them.

On one device everything is as jax has it by default. On several the batch axis of the minibatches
is cut into equal parts, one for each device, and everything else is on all of them: XLA's
partitioner does the rest, so the update's code is the same. With `jax.distributed` the devices may
be those of several processes, which must then hold the same rows and make the same calls.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from handrail.config import check


class DeviceMesh:
    """Sends arrays to where they are needed, and counts the copies."""

    def __init__(self, count: int) -> None:
        """Take the first devices that jax sees.

        Args:
            count: Number of devices.

        Raises:
            ConfigError: jax sees fewer.
        """
        seen = jax.devices()
        check(
            count <= len(seen),
            "learner.devices",
            count,
            f"at most {len(seen)}, which is how many {seen[0].platform} devices jax sees here",
        )
        self.mesh = Mesh(np.asarray(seen[:count]), ("batch",)) if count > 1 else None
        self.copies = 0  # [-], host to device, since the last `take_counts`
        self.bytes = 0  # [byte], the same

    @property
    def replicated(self) -> NamedSharding | None:
        """Sharding of what is on all devices; None on one device."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def replicate(self, tree: Any) -> Any:
        """Return a tree of arrays or numbers as arrays on every device, copied."""
        return jax.tree.map(self._replicate, tree)

    def shard_batch(self, array: np.ndarray) -> Any:
        """Return minibatches (U, B, ...) with B cut over the devices.

        On one device the compiled call itself sends the array, which is cheaper than sending it
        first; the copy is counted here. The array must stay as it is until that call has run: on a
        CPU jax may use its memory without copying it.
        """
        if self.mesh is None:
            self._count(array)
            return array
        return self._shard(array, NamedSharding(self.mesh, PartitionSpec(None, "batch")))

    def take_counts(self) -> tuple[int, int]:
        """Return copies and bytes since the last call of this."""
        counts = self.copies, self.bytes
        self.copies = self.bytes = 0
        return counts

    def _replicate(self, leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._replicate(np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        array = np.array(leaf)  # a copy, for on a CPU jax may keep the memory itself
        if self.replicated is not None:
            return self._shard(array, self.replicated)
        self._count(array)
        return jnp.asarray(array)

    def _shard(self, array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        # device_put compares the array over all processes first, which costs a round trip
        sent = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
        for part in sent.addressable_shards:
            self.copies += 1
            self.bytes += part.data.nbytes  # type: ignore[union-attr]
        return sent

    def _count(self, array: Any) -> None:
        self.copies += 1
        self.bytes += array.nbytes
