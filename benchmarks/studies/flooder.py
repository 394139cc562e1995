"""A flood of connections that prove nothing: some are held, the others come and go.

    python benchmarks/studies/flooder.py PORT ... [--seconds 30] [--sources 4] [--held 400]

Every connection is from one of some addresses of this machine; half of them begin a handshake.
What is cut off is opened anew. Prints how many were opened.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import time

GREETING = bytes([255, 0, 0, 0, 0, 0, 0, 0, 1, 127, 3, 0]) + b"CURVE".ljust(20, b"\1")


def open_one(number: int, port: int, sources: int) -> socket.socket:
    """Return a connection under way from one of the sources."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((f"127.0.0.{2 + number % sources}", 0))
    sock.connect_ex(("127.0.0.1", port))
    return sock


def still_open(sock: socket.socket, begins: bool) -> bool:
    """Say something where the connection is to begin a handshake; return whether it lives."""
    try:
        if begins:
            sock.send(GREETING)
        return sock.recv(65536) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main() -> int:
    """Flood; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--held", type=int, default=400)
    options = parser.parse_args()
    numbers = itertools.count()
    ports = itertools.cycle(options.ports)
    held: list[tuple[socket.socket, bool]] = []
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        for _ in range(20):  # these go at once
            with contextlib.closing(open_one(n := next(numbers), next(ports), options.sources)):
                pass
        while len(held) < options.held:
            n = next(numbers)
            held.append((open_one(n, next(ports), options.sources), n % 2 == 0))
        time.sleep(0.01)
        alive = []
        for sock, begins in held:
            if still_open(sock, begins):
                alive.append((sock, False))
            else:
                sock.close()
        held = alive
    print(next(numbers), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
