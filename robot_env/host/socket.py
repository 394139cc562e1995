"""The host's socket: one client has authority at a time, others are told so and sent away."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from controllers.robot import REQUEST_SIZE, SNAPSHOT_SIZE, Snapshot
from handrail.errors import DeviceLost, NotGranted, ProtocolMismatch, RunFolderError
from handrail.spec import EnvSpec
from robot_env.host import messages
from robot_env.host.authorization import HostKey, Permission
from robot_env.host.core import GOAL_ESTIMATE_SIZE
from robot_env.host.shared_memory import Segment, SegmentLayout

log = logging.getLogger("host")

_SEND_WITHIN = 1.0  # [s], a client that doesn't read this long is as good as dead


class ClientSession:
    """A client with authority: its socket and its shared memory."""

    def __init__(
        self,
        conn: socket.socket,
        pid: int,
        spec: EnvSpec,
        realtime: bool,
        host_key: HostKey | None = None,
    ) -> None:
        """Make the shared memory and hand it over with the welcome.

        Args:
            conn: To the client.
            pid: Its process, for messages.
            spec: Of the task.
            realtime: Whether the host runs on its own clock.
            host_key: What a claim is judged by; None grants no claim.

        Raises:
            DeviceLost: The client is gone already.
        """
        images = {name: (int(h), int(w), int(c)) for name, (h, w, c) in spec.images.items()}
        layout = SegmentLayout(REQUEST_SIZE, SNAPSHOT_SIZE, GOAL_ESTIMATE_SIZE, images)
        self.conn, self.pid = conn, pid
        self.grant = Permission.POLICY  # what the client may ask for
        self.refused = self._not_granted = 0  # the client could write over the segment's counts
        self._host_key = host_key
        self._begun = False  # no claim is granted once an episode began
        self._said: set[type[Exception]] = set()
        self.segment, fd = Segment.create(layout)
        self._flat = np.empty(SNAPSHOT_SIZE)
        conn.settimeout(_SEND_WITHIN)
        welcome = {
            "version": messages.VERSION,
            "pid": os.getpid(),
            "task": spec.task,
            "spec_hash": spec.hash,
            "control_hz": spec.control_hz,
            "realtime": realtime,
            "nominal": GOAL_ESTIMATE_SIZE,
            "images": images,
        }
        try:
            messages.send(conn, messages.WELCOME, welcome, fd)
        finally:
            os.close(fd)

    def claim(self, payload: dict[str, Any]) -> None:
        """Judge a claim, and answer.

        Raises:
            NotGranted: It isn't granted; the session keeps what it has.
        """
        if self._host_key is None or self._begun:
            raise NotGranted("refused: ask for a grant when connecting, before the first episode")
        self.grant = self._host_key.claim(payload)
        log.info("process %d was granted %s", self.pid, self.grant)
        self.done({"grant": int(self.grant)})

    def count(self, error: Exception) -> bool:
        """Count a refused request, tell the client, and return whether it's the first such error.

        Args:
            error: Why it was refused.
        """
        self.refused += 1
        self._not_granted += isinstance(error, NotGranted)
        self.segment.refused, self.segment.not_granted = self.refused, self._not_granted
        new = type(error) not in self._said
        self._said.add(type(error))
        return new

    def publish(self, snapshot: Snapshot) -> None:
        """Make a snapshot the newest one."""
        self.segment.snapshot.write(snapshot.pack(self._flat))

    def publish_goal_estimate(self, goal_estimate: np.ndarray) -> None:
        """Make the goal estimate of an episode known, zeros after it."""
        self._begun = True
        padded = np.zeros(GOAL_ESTIMATE_SIZE)
        padded[: goal_estimate.size] = goal_estimate
        self.segment.goal_estimate.write(padded)

    def publish_images(self, images: dict[str, np.ndarray]) -> None:
        """Put images where the client looks for them; it has asked and waits."""
        for name, image in images.items():
            self.segment.images[name][:] = image

    def done(self, payload: dict[str, Any] | None = None) -> None:
        """Answer that what was asked is done."""
        messages.send(self.conn, messages.DONE, payload)

    def send_picture(self, picture: np.ndarray) -> None:
        """Answer with a picture in an anonymous file of its own."""
        fd = os.memfd_create("handrail-picture", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as out:
                out.write(np.ascontiguousarray(picture).data)
            messages.send(self.conn, messages.DONE, None, fd)
        finally:
            os.close(fd)

    def refuse(self, error: Exception, fatal: bool = False) -> None:
        """Answer with an error; after a fatal one the client hangs up."""
        messages.send(self.conn, messages.ERROR, messages.pack_error(error) | {"fatal": fatal})

    def close(self) -> None:
        """Hang up."""
        self.conn.close()


class HostSocket:
    """The listening socket of a run's host."""

    def __init__(self, run_id: str) -> None:
        """Take the name; clients are let in from `open` on.

        Raises:
            RunFolderError: Another live host of the same run has it.
        """
        self._run_id = run_id
        self.host_key: HostKey | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self.socket.bind(messages.address(run_id))
        except OSError as error:
            self.socket.close()
            raise RunFolderError(
                f"another robot host of run {run_id} is alive ({error.strerror}); stop it first, "
                f"or give the new run a folder of its own"
            ) from None

    def open(self, host_key: HostKey) -> None:
        """Let clients in from now on.

        Args:
            host_key: What their claims are judged by.
        """
        self.host_key = host_key
        self.socket.listen(8)
        self.socket.setblocking(False)

    def accept(
        self, holder: ClientSession | None, make: Callable[..., ClientSession]
    ) -> ClientSession | None:
        """Return a new client, or None where nobody came or who came was sent away.

        Args:
            holder: Client that has authority now, if any.
            make: Builds the session from connection and process id.
        """
        try:
            conn, _ = self.socket.accept()
        except OSError:
            return None
        try:
            pid, uid = messages.peer(conn)
            conn.settimeout(_SEND_WITHIN)
            refusal = self._refusal(pid, uid, holder)
            if refusal is None:
                session = make(conn, pid)
                log.info("process %d has authority", pid)
                return session
            log.warning("refused process %d: %s", pid, refusal)
            messages.send(conn, messages.ERROR, messages.pack_error(refusal) | {"fatal": True})
        except (DeviceLost, OSError):
            log.warning("a client went away before it was let in")
        with contextlib.suppress(OSError):
            conn.close()
        return None

    def close(self) -> None:
        """Free the name; safe to call twice."""
        self.socket.close()

    def _refusal(self, pid: int, uid: int, holder: ClientSession | None) -> Exception | None:
        if uid != os.getuid():
            return ProtocolMismatch(
                f"this host serves user {os.getuid()}, process {pid} is user {uid}'s"
            )
        if holder is not None:
            return DeviceLost(f"process {holder.pid} has authority over the arm of {self._run_id}")
        return None
