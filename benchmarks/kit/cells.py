"""What benchmarks that take hours share: cells in processes of their own, results kept at once.

A cell appends one line to a results file when it is done. Whoever runs a suite starts what has no
line yet, so that a suite which was interrupted goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MORTAL = ("setpriv", "--pdeathsig", "KILL")  # a cell ends with its suite, whatever ends that


def run_commands(commands: list[list[str]], jobs: int) -> int:
    """Run commands, `jobs` at a time, each pinned to a core; return how many failed.

    Args:
        commands: Arguments of this interpreter.
        jobs: How many at a time.
    """
    cores = sorted(os.sched_getaffinity(0))
    free = [cores[i % len(cores)] for i in range(jobs)]
    running: list[tuple[subprocess.Popen[bytes], str, int]] = []
    waiting, failed = list(commands), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and free:
            command, core = waiting.pop(0), free.pop(0)
            pinned = [*MORTAL, "taskset", "-c", str(core), sys.executable, *command]
            name = " ".join(command[1:])
            started = subprocess.Popen(pinned, env=environment, stdout=subprocess.DEVNULL)
            running.append((started, name, core))
            print(f"started {name} on core {core}, {len(waiting)} to go", flush=True)
        time.sleep(1.0)
        for entry in [entry for entry in running if entry[0].poll() is not None]:
            running.remove(entry)
            free.append(entry[2])
            failed += entry[0].returncode != 0
            print(f"ended {entry[1]} with code {entry[0].returncode}", flush=True)
    return failed


def commit() -> str:
    """Return the commit that the working tree is at, with a plus sign if it was changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "configs")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def stamped(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the commit that it was made at, and when."""
    return {**row, "commit": commit(), "time": time.strftime("%Y-%m-%dT%H:%M:%S")}


def append(path: Path, row: dict[str, Any]) -> None:
    """Append a line under a lock, so that cells which end together don't mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.write(json.dumps(row) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a results file; none if there is no file."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
