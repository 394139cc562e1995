"""The Franka Hand, beside the control loop: its commands block for seconds.

pylibfranka keeps the interpreter's lock while it waits, so that the real hand lives in a process of
its own (`HandProcess`); the mock's may live in a thread (`HandThread`). Closing is always a grasp
with limited force, never a move.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger("host")

_IDLE = 0.1  # [s], between looks at a hand that has nothing to do
_SAME = 1e-3  # [m], a target this near to the last one is no new command


class Hand(Protocol):
    """A hand that is told a width and says what it has; neither call waits."""

    width: float  # newest measured opening [m]

    def ask(self, width: float) -> None:
        """Go to an opening [m]; closing stops at the force limit."""
        ...

    def poll(self) -> None:
        """Take in what the hand has said."""
        ...

    def close(self) -> None:
        """Let go of the device; safe to call twice."""
        ...


def serve(
    gripper: Any,
    receive: Callable[[float], float | None],
    send: Callable[[float], None],
    force: float,
    speed: float,
) -> None:
    """Carry out widths until there are no more.

    Args:
        gripper: The library's `Gripper`.
        receive: Waits at most so many seconds and returns the newest width [m], NaN if there is
            none, None to end.
        send: Tells the measured width [m].
        force: At most, when closing [N].
        speed: Of the fingers [m/s].
    """
    last = gripper.read_once().width
    send(last)
    while (wanted := receive(_IDLE)) is not None:
        if wanted == wanted and abs(wanted - last) > _SAME:  # NaN is not equal to itself
            if wanted > gripper.read_once().width:
                gripper.move(wanted, speed)
            else:
                gripper.grasp(wanted, speed, force, 0.08, 0.08)
            last = wanted
        send(gripper.read_once().width)


class HandThread:
    """A hand in a thread, for the mock."""

    def __init__(self, gripper: Any, force: float, speed: float) -> None:
        """Begin to serve; arguments as `serve`."""
        self.width = float(gripper.read_once().width)
        self._asked: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=serve, args=(gripper, self._receive, self._take, force, speed), daemon=True
        )
        self._thread.start()

    def ask(self, width: float) -> None:
        """See `Hand`."""
        self._asked.put(width)

    def poll(self) -> None:
        """See `Hand`."""

    def close(self) -> None:
        """See `Hand`."""
        self._asked.put(None)
        self._thread.join(timeout=5.0)

    def _receive(self, seconds: float) -> float | None:
        newest: float | None = float("nan")
        with contextlib.suppress(queue.Empty):
            newest = self._asked.get(timeout=seconds)
            while newest is not None:
                newest = self._asked.get_nowait()
        return newest

    def _take(self, width: float) -> None:
        self.width = width


class HandProcess:
    """A hand in a process, for the real one; lines of JSON go both ways."""

    def __init__(self, address: str, force: float, speed: float) -> None:
        """Start the process; it connects while the arm does.

        Args:
            address: Of the control box.
            force: See `serve` [N].
            speed: See `serve` [m/s].
        """
        self.width = 0.0
        self._lost = False
        self._rest = b""
        command = [sys.executable, "-m", "robot_env.arms.franka.gripper", address]
        self._process = subprocess.Popen(
            [*command, f"--force={force}", f"--speed={speed}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)

    def ask(self, width: float) -> None:
        """See `Hand`."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._in.fileno(), json.dumps(width).encode() + b"\n")

    def poll(self) -> None:
        """See `Hand`; a process that is gone is said once."""
        try:
            data = os.read(self._out.fileno(), 4096)
        except BlockingIOError:
            return
        if not data and not self._lost:
            self._lost = True
            log.error("the hand's process is gone; the arm goes on without it")
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if lines:
            self.width = float(json.loads(lines[-1]))

    def close(self) -> None:
        """See `Hand`."""
        self._in.close()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()


def main() -> int:
    """Serve a real hand over standard input and output; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--force", type=float, required=True, help="[N], at most")
    parser.add_argument("--speed", type=float, required=True, help="[m/s]")
    options = parser.parse_args()
    import pylibfranka  # type: ignore[import-not-found]

    try:
        gripper = pylibfranka.Gripper(options.address)
    except RuntimeError as error:
        print(f"no hand at {options.address}: {error}", file=sys.stderr)
        return 2
    rest = b""

    def receive(seconds: float) -> float | None:
        nonlocal rest
        if not select.select([0], [], [], seconds)[0]:
            return float("nan")
        data = os.read(0, 65536)
        if not data:
            return None
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        return float(json.loads(lines[-1])) if lines else float("nan")

    def send(width: float) -> None:
        print(json.dumps(width), flush=True)

    serve(gripper, receive, send, options.force, options.speed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
