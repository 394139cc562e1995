"""A bare 1 kHz loop in a process of its own: how late this machine is with anything at all.

Tests of real time run beside it. One that fails while the bare loop was late too says nothing of
Handrail and is tried again; one that fails while the bare loop kept its time has failed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from _pytest.runner import runtestprotocol

LATE = 5e-3  # [s], of the bare loop, from where on a failure may be the machine's
TRIES = 5

LOOP = """
import select, sys, time
worst, due = 0.0, time.monotonic()
while True:
    due += 1e-3
    time.sleep(max(0.0, due - time.monotonic()))
    late = time.monotonic() - due
    worst = max(worst, late)
    if late > 1e-3:
        due = time.monotonic()
    if select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline():
            break
        print(worst, flush=True)
        worst = 0.0
"""


class BareLoop:
    """The loop's process; it ends with the one that started it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def worst(self) -> float:
        """Return how late it was at most since the last call [s]."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def run_beside(worst: Callable[[], float], item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a test, again where it failed while the bare loop was late; say so each time.

    Args:
        worst: How late the bare loop was since the last call [s].
        item: The test.
        nextitem: The one after it.
    """
    terminal = item.config.pluginmanager.get_plugin("terminalreporter")
    for left in reversed(range(TRIES)):
        worst()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        late = worst()
        if not left or late < LATE or not any(report.failed for report in reports):
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return
        if terminal is not None:
            terminal.write_line(f"{item.nodeid}: again, a bare loop was {1e3 * late:.0f} ms late")
        item._initrequest()  # type: ignore[attr-defined]  # as pytest does before each run
