"""Suites of benchmarks: their cells are processes of their own, but not on their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
import sys
from benchmarks.kit.cells import run_commands
cell = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
run_commands([["-c", cell, sys.argv[1]]], 1)
"""


def alive(pid: int) -> bool:
    """Return whether a process runs; one that ended and that nobody asked after doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_suite_that_is_killed_takes_its_cells_along(how: signal.Signals, tmp_path: Path):
    note = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    suite = subprocess.Popen([sys.executable, "-c", SUITE, str(note)], env=environment)
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    cell = int(note.read_text())
    assert alive(cell)
    suite.send_signal(how)
    suite.wait()
    while alive(cell) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(cell)
