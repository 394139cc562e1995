"""What lossless coders make of camera frames of 128 x 128 x 3, and what they cost.

    python benchmarks/studies/frames.py

Frames: the simulated cameras of `peg` during an expert's episode; a photograph (matplotlib's, in
the public domain) with the noise of a camera, of deviation 0 to 4; noise alone, from which nothing
can be saved. Each coder has each frame in turn. The last line is a JSON object with the key `rows`:
`frames, coder, share` (of the bytes that are left), `shorten_us, restore_us` (medians); "ours" is
`handrail.link.image_codec`, which the link uses where [link] short is true.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

import imageio.v3 as imageio
import lz4.block
import matplotlib
import numpy as np
import zstandard

from controllers.config import ControlConfig
from handrail.link.image_codec import compress, decompress
from robot_env.arms.sim.config import MujocoConfig
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.config import TaskConfig

SIDE, COUNT = 128, 24  # [px]; [-], frames of a kind
Coder = tuple[Callable[[np.ndarray], Any], Callable[[Any], Any]]


def simulated() -> list[np.ndarray]:
    """Return frames of both cameras during an expert's episode."""
    task = make("peg", TaskConfig(name="peg", images=True))
    core = HostCore(task, MujocoConfig(), ControlConfig())
    core.warm_up()
    frames: list[np.ndarray] = []
    snapshot, goal_estimate = core.reset(0)
    actor = task.expert(np.random.default_rng(0))
    actor.reset()
    for seq in range(COUNT // 2):
        action = actor.act(snapshot, goal_estimate)
        snapshot = core.step(task.request(snapshot, action, seq))
        frames += [frame.copy() for frame in core.cameras().images().values()]
    core.close()
    return frames


def photographed(noise: float) -> list[np.ndarray]:
    """Return cuts of a photograph, with noise of this deviation [levels]."""
    rng = np.random.default_rng(0)
    whole = imageio.imread(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    half = whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2].astype(float)
    half = (half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]) / 4
    frames = []
    for _ in range(COUNT):
        y, x = (rng.integers(0, n - SIDE) for n in half.shape[:2])
        cut = half[y : y + SIDE, x : x + SIDE]
        frames.append(np.clip(cut + rng.normal(0, noise, cut.shape), 0, 255).astype(np.uint8))
    return frames


def coders() -> dict[str, Coder]:
    """Return what is compared, by name."""

    def zstd(level: int) -> Coder:
        made = zstandard.ZstdCompressor(level=level)
        return lambda frame: made.compress(frame.data), zstandard.ZstdDecompressor().decompress

    return {
        "lz4": (lambda frame: lz4.block.compress(frame.data), lz4.block.decompress),
        "zlib 1": (lambda frame: zlib.compress(frame.data, 1), zlib.decompress),
        "zstd 1": zstd(1),
        "zstd 3": zstd(3),
        "ours": (partial(compress, ""), lambda data: decompress(memoryview(data), (SIDE, SIDE, 3))),
    }


def measure(kind: str, frames: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return a row for each coder on these frames."""
    all_coders = coders()
    shares: dict[str, list[float]] = {name: [] for name in all_coders}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in all_coders}
    for _ in range(5):
        for frame in frames:
            for name, (code, decode) in all_coders.items():
                begin = time.perf_counter()
                data = code(frame)
                middle = time.perf_counter()
                back = decode(data)
                took[name].append((middle - begin, time.perf_counter() - middle))
                shares[name].append(len(data) / frame.nbytes)
                if bytes(back) != frame.tobytes():
                    raise RuntimeError(f"{name} lost something of a frame of {kind}")
    rows = []
    for name in all_coders:
        there, back_again = 1e6 * np.median(took[name], axis=0)
        row = {"frames": kind, "coder": name, "share": round(float(np.mean(shares[name])), 3)}
        rows.append({**row, "shorten_us": round(there), "restore_us": round(back_again)})
        print(f"{kind:14} {name:7} {row['share']:.3f}  {there:5.0f} us  {back_again:5.0f} us")
    return rows


def main() -> int:
    """Run the benchmark; return the exit code."""
    rng = np.random.default_rng(0)
    kinds = {
        "simulated": simulated(),
        **{f"photo, noise {n}": photographed(n) for n in (0, 1, 2, 4)},
        "noise": list(rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)),
    }
    rows = [row for kind, frames in kinds.items() for row in measure(kind, frames)]
    print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
