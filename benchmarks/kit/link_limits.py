"""What `link.py` compares with: bare sockets and a bare disk that move the same bytes."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

from benchmarks.kit.link_sides import child, free_endpoint

SYNCED = 1 << 20  # [B], written and synced at a time: a batch of the link


def pull(pipe: Connection, endpoint: str, secret: tuple[bytes, bytes] | None) -> None:
    """Take messages until told how many there are, then say when all are there."""
    with zmq.Context() as context, context.socket(zmq.PULL) as sock:
        if secret is not None:
            sock.curve_server = True
            sock.curve_publickey, sock.curve_secretkey = secret
        sock.bind(endpoint)
        pipe.send("ready")
        got, wanted = 0, -1
        while got != wanted:
            if wanted < 0 and pipe.poll():
                wanted = pipe.recv()
            for _ in range(64):
                if not sock.poll(20):
                    break
                sock.recv(copy=False)
                got += 1
        pipe.send("done")


def push_rate(size: int, seconds: float, curve: bool = False) -> float:
    """Return messages/s of PUSH/PULL over loopback, of so many random bytes [B]."""
    payload, endpoint = [os.urandom(size) for _ in range(64)], free_endpoint()
    pair = zmq.curve_keypair() if curve else None
    with (
        child(pull, endpoint, pair) as pipe,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as sock,
    ):
        if pair is not None:
            sock.curve_serverkey = pair[0]
            sock.curve_publickey, sock.curve_secretkey = zmq.curve_keypair()
        sock.connect(endpoint)
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            sock.send(payload[count % 64], copy=size < 65536)
            count += 1
        pipe.send(count)
        pipe.recv()
        return count / (time.perf_counter() - begin)


def disk_rate(folder: Path, seconds: float, size: int = SYNCED) -> float:
    """Return bytes/s of `write` and `fdatasync`, so many bytes at a time, to a growing file."""
    data, file = os.urandom(size), folder / "raw"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            os.write(fd, data)
            os.fdatasync(fd)
            count += 1
        return count * size / (time.perf_counter() - begin)
    finally:
        os.close(fd)
        file.unlink()
