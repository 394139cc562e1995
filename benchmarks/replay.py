"""The replay of two-camera transitions: what it holds, how fast it samples, how fast it is rebuilt.

    python benchmarks/replay.py --rounds 30

A transition has one new 128 x 128 x 3 frame of each of two cameras. `sample256_ms` is the time to
draw 256 of them with their windows, states and frames, now and next, into arrays made before;
`sample_vs_memcpy` divides it by a copy of as many bytes, in turns. `memory_vs_naive` is the growth
of the process per transition over the bytes of its observation and its next one. A restore reads,
checks and links the rows of a store; *cold* means that the system's cache of the file is dropped
before. The line before the last compares it with reading the file and nothing else, in turns.

The last line is a JSON object with the keys `insert_per_s, sample256_ms, sample_vs_memcpy,
memory_vs_naive, restore_s_per_100k_warm, restore_s_per_100k_cold`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.kit.link_sides import ACTION, STATE, rows_of, spec_of
from handrail.transition import Transition
from learner.config import LearnerConfig
from learner.data.replay import Replay
from learner.store.store import Store

SPEC = spec_of(images=True)
EPISODE = 100  # [steps]
NAIVE = 2 * (2 * 128 * 128 * 3 + 4 * STATE) + 4 * ACTION  # [B], observation, next one, action


def steps(count: int) -> list[Transition]:
    """Return the rows of whole episodes of so many transitions in all; frames repeat."""
    drawn = rows_of(SPEC)
    rows = []
    for n in range(count // EPISODE):
        for t in range(EPISODE + 1):
            like = drawn[(n * EPISODE + t) % len(drawn)]
            rows.append(
                Transition(
                    n, t, 1, like.state, like.action, like.policy_action, like.filter_delta,
                    like.base_action, end=t == EPISODE, truncated=t == EPISODE - 1,
                    images=like.images,
                )
            )  # fmt: skip
    return rows


def empty(rows: int) -> Replay:
    """Return a replay that holds so many rows."""
    return Replay(LearnerConfig(capacity=rows, n_step=1), SPEC, frames=True)


def resident() -> int:
    """Return the memory that this process holds [B]."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def measure_inserts(rows: list[Transition]) -> tuple[Replay, float, float]:
    """Return a full replay, inserts/s, and memory over the naive one's."""
    before, begin = resident(), time.perf_counter()
    replay = empty(len(rows))
    for row in rows:
        replay.add(row)
    took = time.perf_counter() - begin
    steps = len(rows) * EPISODE // (EPISODE + 1)
    return replay, len(rows) / took, (resident() - before) / (steps * NAIVE)


def measure_samples(replay: Replay, rounds: int) -> tuple[float, float]:
    """Return the time of a sample of 256 [ms] and its ratio to a copy: medians."""
    assert replay.frames is not None
    rng = np.random.default_rng(0)
    out = replay.empty_rows(256, 1), replay.frames.empty(256)
    size = sum(image.nbytes for images in out[1] for image in images.values())
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    sample, copy = [], []
    for n in range(rounds + 2):
        for ours in (True, False) if n % 2 else (False, True):
            begin = time.perf_counter()
            if ours:
                replay.sample_frames(256, rng, out=out)
            else:
                np.copyto(target, source)
            (sample if ours else copy).append(time.perf_counter() - begin)
    ratios = np.array(sample[2:]) / np.array(copy[2:])
    return 1e3 * float(np.median(sample[2:])), float(np.median(ratios))


def forget(path: Path) -> None:
    """Drop the system's cache of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def read(path: Path) -> None:
    """Read a file, a MiB at a time."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def measure_restores(rows: list[Transition], rounds: int, parent: Path) -> dict[str, float]:
    """Return, warm and cold, seconds per 100 000 transitions and the ratio to bare reading."""
    path = parent / "store.db"
    with Store(path, SPEC) as store:
        for first in range(0, len(rows), 64):
            store.put_rows("arm", rows[first : first + 64])
    took: dict[str, list[float]] = {"warm": [], "cold": []}
    ratio: dict[str, list[float]] = {"warm": [], "cold": []}
    for n in range(rounds):
        for cold in (False, True):
            times = {}
            for ours in (True, False) if n % 2 else (False, True):
                forget(path) if cold else read(path)
                begin = time.perf_counter()
                if ours:
                    with Store(path, SPEC) as store:
                        replay = empty(len(rows))
                        for _, row in store.rows():
                            replay.add(row)
                else:
                    read(path)
                times[ours] = time.perf_counter() - begin
            name = "cold" if cold else "warm"
            took[name].append(times[True])
            ratio[name].append(times[False] / times[True])
    steps = len(rows) * EPISODE // (EPISODE + 1)
    figures = {name: 1e5 * float(np.median(took[name])) / steps for name in took}
    return figures | {f"{name}_vs_disk": float(np.median(ratio[name])) for name in ratio}


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="of samples")
    parser.add_argument("--restores", type=int, default=3)
    parser.add_argument("--transitions", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's if none")
    options = parser.parse_args()
    rows = steps(options.transitions)
    replay, inserts, memory = measure_inserts(rows)
    sample, ratio = measure_samples(replay, options.rounds)
    del replay
    with tempfile.TemporaryDirectory(prefix="handrail-replay-", dir=options.folder) as folder:
        restores = measure_restores(rows, options.restores, Path(folder))
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    warm, cold = restores["warm_vs_disk"], restores["cold_vs_disk"]
    print(f"a restore reads at {warm:.2f} of the bare rate warm, {cold:.2f} cold")
    print(
        json.dumps(
            {
                "insert_per_s": round(inserts),
                "sample256_ms": round(sample, 2),
                "sample_vs_memcpy": round(ratio, 3),
                "memory_vs_naive": round(memory, 3),
                "restore_s_per_100k_warm": round(restores["warm"], 1),
                "restore_s_per_100k_cold": round(restores["cold"], 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
