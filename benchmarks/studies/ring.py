"""How long a 1 kHz loop waits for its own memory while others sync files: on the disk, in memory.

`python benchmarks/studies/ring.py`: the loop writes one word of a mapped file each millisecond, as
the flight recorder does; a process beside it writes and syncs 9 MB at a time, as recordings and
spools do. Both places in turn, several times. JSON last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from robot_env.recorder.ring_placement import MEMORY

SYNCS = """
import os, sys, time
while True:
    with open(sys.argv[1], "wb") as file:
        file.write(os.urandom(9_000_000))
        file.flush()
        os.fsync(file.fileno())
    time.sleep(0.05)
"""
SIZE = 1 << 26  # [bytes]


def write_ticks(folder: Path, seconds: float) -> np.ndarray:
    """Return how long each write took [s]."""
    file = folder / f"handrail-benchmark-{os.getpid()}"
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, 0, SIZE)
        with mmap.mmap(fd, SIZE) as mapped:
            took = np.zeros(round(1e3 * seconds))
            due = time.perf_counter()
            for n in range(took.size):
                due = max(due + 1e-3, time.perf_counter())
                time.sleep(max(0.0, due - time.perf_counter()))
                begin = time.perf_counter()
                mapped[:8] = n.to_bytes(8, "little")
                took[n] = time.perf_counter() - begin
            return took
    finally:
        os.close(fd)
        file.unlink()


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn [s]")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(80))
    took: dict[str, list[np.ndarray]] = {"disk": [], "memory": []}
    with tempfile.TemporaryDirectory() as folder:
        beside = subprocess.Popen([sys.executable, "-c", SYNCS, str(Path(folder) / "synced")])
        try:
            for _ in range(options.turns):
                for name, place in (("disk", Path(folder)), ("memory", MEMORY)):
                    took[name].append(write_ticks(place, options.seconds))
        finally:
            beside.kill()
            beside.wait()
    figures: dict[str, float] = {}
    for name, turns in took.items():
        all_ms = 1e3 * np.concatenate(turns)
        figures[f"{name}_max_ms"] = round(float(all_ms.max()), 2)
        figures[f"{name}_p999_ms"] = round(float(np.percentile(all_ms, 99.9)), 3)
        figures[f"{name}_over_5ms_per_million"] = round(float((all_ms > 5.0).mean() * 1e6), 1)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
