"""How a client comes to authority over the arm: connect, check who answers, claim what it needs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from controllers.robot import REQUEST_SIZE, SNAPSHOT_SIZE
from handrail.errors import DeviceLost, NotGranted, ProtocolMismatch
from robot_env.host import messages
from robot_env.host.authorization import Permission, read_key
from robot_env.host.shared_memory import Segment, SegmentLayout


@dataclass(frozen=True)
class Credentials:
    """Who calls which host."""

    run_id: str  # of the run, as in its run.json
    spec_hash: str | None  # `EnvSpec.hash` of the task that is meant; None takes any
    ask: Permission  # what to be granted, the policy's authority included
    key: Path | None  # file of the host's key; needed to be granted more than that


class HostConnection(NamedTuple):
    """A connection that stands."""

    conn: socket.socket
    welcome: dict[str, Any]  # what the host said about itself
    segment: Segment  # shared memory
    period: float  # [s], of a policy step
    grant: Permission  # what the host granted


def connect(credentials: Credentials, wait: float, answer_within: float) -> HostConnection:
    """Return a connection to a running host that grants what the caller asks.

    Args:
        credentials: Who calls which host.
        wait: How long to wait for the host's first words, at most `answer_within` [s].
        answer_within: How long any later call may take [s].

    Raises:
        DeviceLost: No host answered in time, or another client has authority.
        ProtocolMismatch: The host speaks another version, runs another task, or is of another user.
        NotGranted: The host doesn't grant what is asked.
    """
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        conn.settimeout(min(wait, answer_within))
        try:
            conn.connect(messages.address(credentials.run_id))
        except OSError as error:
            raise DeviceLost(f"can't connect: {error.strerror or error}") from None
        pid, uid = messages.peer(conn)
        if uid != os.getuid():
            raise ProtocolMismatch(
                f"the socket of run {credentials.run_id} belongs to user {uid}, "
                f"this process to {os.getuid()}"
            )
        try:
            kind, welcome, fd = messages.receive(conn)
        except TimeoutError:
            raise DeviceLost(f"host process {pid} doesn't answer") from None
        if kind == messages.ERROR:
            messages.raise_error(welcome)
        segment, period = _attach(welcome, fd, credentials.spec_hash)
        grant = _claim(conn, credentials)
        conn.settimeout(answer_within)
    except BaseException:
        conn.close()
        raise
    return HostConnection(conn, welcome, segment, period, grant)


def _attach(
    welcome: dict[str, Any], fd: int | None, spec_hash: str | None
) -> tuple[Segment, float]:
    """Return the memory that a welcome shares, and the policy's period [s]."""
    if fd is None:
        raise ProtocolMismatch("the host's welcome came without shared memory")
    try:
        if welcome.get("version") != messages.VERSION:
            raise ProtocolMismatch(
                f"host speaks version {welcome.get('version')} of the host protocol, "
                f"this client {messages.VERSION}"
            )
        if spec_hash is not None and welcome["spec_hash"] != spec_hash:
            raise ProtocolMismatch(
                f"host runs task {welcome['task']!r} with spec {welcome['spec_hash']}, "
                f"this client means {spec_hash}"
            )
        images = {name: tuple(shape) for name, shape in welcome["images"].items()}
        layout = SegmentLayout(REQUEST_SIZE, SNAPSHOT_SIZE, int(welcome["nominal"]), images)
        period = 1.0 / float(welcome["control_hz"])
    except BaseException:
        os.close(fd)
        raise
    return Segment.attach(fd, layout), period


def _claim(conn: socket.socket, credentials: Credentials) -> Permission:
    """Return what the host grants of what the caller asks for."""
    if credentials.ask == Permission.POLICY:
        return Permission.POLICY
    if credentials.key is None:
        raise NotGranted(f"asking for {credentials.ask!r} takes the host's key, got none")
    claim = {"key": read_key(credentials.key), "ask": int(credentials.ask)}
    messages.send(conn, messages.CLAIM, claim)
    try:
        kind, reply, _ = messages.receive(conn)
    except TimeoutError:
        raise DeviceLost("the host doesn't answer a claim") from None
    if kind == messages.ERROR:
        messages.raise_error(reply)
    return Permission(int(reply["grant"]))
