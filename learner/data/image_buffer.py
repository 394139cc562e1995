"""Camera frames of the replay ring, each stored once, in the slot of its row.

A row's next frame is the frame of the row that its window bootstraps from, so that the links of
`learner.replay` keep frames of other episodes, lost rows and overwritten slots apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from handrail.spec import EnvSpec

Images: TypeAlias = "dict[str, np.ndarray]"


class ImageBatch(NamedTuple):
    """What the cameras saw in U minibatches of B rows: name -> (U, B, H, W, 3) uint8."""

    now: Images
    nxt: Images  # where the return bootstraps from


class ImageBuffer:
    """One preallocated array a camera; memory is taken as slots are first written."""

    def __init__(self, size: int, spec: EnvSpec) -> None:
        self._frames = {
            name: np.empty((size, *shape), np.uint8) for name, shape in spec.images.items()
        }

    def put(self, slot: int, images: Mapping[str, np.ndarray]) -> None:
        """Write a row's frames."""
        for name, frames in self._frames.items():
            frames[slot] = images[name]

    def empty(self, count: int, batches: int = 1) -> ImageBatch:
        """Return arrays for `gather` to write into."""

        def images() -> Images:
            return {
                name: np.empty((batches, count, *frames.shape[1:]), np.uint8)
                for name, frames in self._frames.items()
            }

        return ImageBatch(images(), images())

    def gather(self, start: np.ndarray, bootstrap: np.ndarray, out: ImageBatch) -> None:
        """Write the frames at slots (N,) and those that their windows end at, (N,)."""
        for slots, images in ((start, out.now), (bootstrap, out.nxt)):
            for name, frames in self._frames.items():
                flat = images[name].reshape(-1, *frames.shape[1:])
                # checking the slots, as mode "raise" does, would gather into a buffer first
                np.take(frames, slots, axis=0, out=flat, mode="clip")
