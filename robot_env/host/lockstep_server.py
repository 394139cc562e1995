"""The host process in lockstep: it waits for the actor, and minds the arm when nobody comes."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from controllers.robot import Authority, Mode, Request
from handrail.errors import DeviceLost, Error, NotGranted, ProtocolMismatch
from robot_env.host import messages
from robot_env.host.authorization import Permission, require_permission, why_refused
from robot_env.host.config import HostConfig
from robot_env.host.core import HostCore
from robot_env.host.risk_critic_buffer import receive_array
from robot_env.host.socket import ClientSession, HostSocket

log = logging.getLogger("host")


class LockstepServer:
    """Serves one client at a time; simulated time stands still while nobody asks."""

    def __init__(
        self,
        core: HostCore,
        host_socket: HostSocket,
        config: HostConfig,
        stop: threading.Event,
        wake: socket.socket,
        after_tick: Callable[[], None] | None = None,
    ) -> None:
        """Set up.

        Args:
            core: What is served.
            host_socket: Open to clients.
            config: Table `[host]`.
            stop: Set by a signal.
            wake: Becomes readable when a signal came.
            after_tick: Called after every change of the robot's state, as a viewer wants it.
        """
        self._core, self._host_socket, self._config = core, host_socket, config
        self._stop, self._wake = stop, wake
        self._after = after_tick or (lambda: None)
        self._session: ClientSession | None = None
        self._poller = select.poll()
        for source in (wake, host_socket.socket):
            self._poller.register(source, select.POLLIN)

    def run(self) -> None:
        """Serve until a signal comes; the arm is at rest when this returns."""
        asked = time.monotonic()
        while not self._stop.is_set():
            left = None
            if self._session is not None and self._core.in_episode:
                left = self._config.request_deadline - (time.monotonic() - asked)
                if left <= 0.0:
                    self._rest(f"no request within {self._config.request_deadline:g} s")
                    continue
            ready = {fd for fd, _ in self._poller.poll(None if left is None else left * 1e3 + 1)}
            if self._session is not None and self._session.conn.fileno() in ready:
                self._serve(self._session)
                asked = time.monotonic()
            if self._host_socket.socket.fileno() in ready:
                self._admit()
        self._rest("the host was told to stop", record=False)
        if self._session is not None:
            self._hang_up()

    def _admit(self) -> None:
        def make(conn: socket.socket, pid: int) -> ClientSession:
            return ClientSession(conn, pid, self._core.task.spec, False, self._host_socket.host_key)

        session = self._host_socket.accept(self._session, make)
        if session is not None:
            self._session = session
            self._core.end_episode("a new client has to begin an episode")
            self._poller.register(session.conn, select.POLLIN)

    def _serve(self, session: ClientSession) -> None:
        try:
            kind, payload, fd = messages.receive(session.conn)
            if kind == messages.CLOSE:
                log.info("process %d gave its authority back", session.pid)
                self._hang_up()
                self._rest("the client left", record=False)
                return
            try:
                with handed_over(fd):
                    self._do(session, kind, payload, fd)
            except Error as error:
                if kind == messages.STEP and isinstance(error, ProtocolMismatch | NotGranted):
                    count_refusal(self._core, session, error)
                session.refuse(error)
        except ProtocolMismatch as error:
            log.warning("process %d: %s; hung up", session.pid, error)
            self._hang_up()
            self._rest("the client broke the protocol")
        except (DeviceLost, TimeoutError):
            log.warning("process %d, which had authority, is gone", session.pid)
            self._hang_up()
            self._rest("the client was lost")

    def _do(
        self, session: ClientSession, kind: bytes, payload: dict[str, Any], fd: int | None
    ) -> None:
        if kind == messages.STEP:
            session.publish(self._core.step(read_request(self._core, session)))
            self._after()
            session.done()
        elif kind == messages.CLAIM:
            session.claim(payload)
        elif kind == messages.CRITIC:
            session.done({"version": self._core.load_critic(critic_of(fd))})
        else:
            answer(self._core, session, kind, payload)
            self._after()

    def _hang_up(self) -> None:
        assert self._session is not None
        self._poller.unregister(self._session.conn)
        self._session.close()
        self._session = None

    def _rest(self, why: str, record: bool = True) -> None:
        """Take the arm to its safe state and say so."""
        if not self._core.in_episode:
            return
        self._core.note(why)
        self._core.end_episode(why)
        snapshot = self._core.bring_to_rest()
        self._after()
        log.warning("%s: episode cut, arm in %s", why, Mode(snapshot.mode).name)
        if record:
            self._core.try_dump(why)


def read_request(core: HostCore, session: ClientSession) -> Request:
    """Return the newest request of a client.

    Raises:
        ProtocolMismatch: There is no whole one, or it isn't made of numbers; it is counted.
    """
    found = session.segment.request.read()
    if found is None:
        core.refuse("the doorbell rang, but no whole request lies in shared memory")
    return parse_request(core, session, found[1])


def parse_request(core: HostCore, session: ClientSession, values: np.ndarray) -> Request:
    """Return the request that a client wrote, if its authority is one that the client was granted.

    Args:
        core: Counts what is refused.
        session: With what it was granted.
        values: (REQUEST_SIZE,) float64.

    Raises:
        ProtocolMismatch: It isn't made of numbers; it is counted.
        NotGranted: It names an authority that the session was not granted; it is counted.
    """
    if not np.isfinite(values).all():
        core.refuse(f"every value must be finite, got {values}")
    request = Request.unpack(values)
    why = why_refused(request.authority, session.grant)
    if why:
        known = request.authority in tuple(Authority)
        core.refuse(why, NotGranted if known else ProtocolMismatch)
    return request


def count_refusal(core: HostCore, session: ClientSession, error: Error) -> None:
    """Count a client's refused request; the first of a kind is logged and recorded.

    Args:
        core: Whose flight recorder remembers it.
        session: Whose request it was.
        error: Why it was refused.
    """
    if session.count(error):
        log.warning("process %d: %s (said once)", session.pid, error)
        core.note(str(error))


def answer(core: HostCore, session: ClientSession, kind: bytes, payload: dict[str, Any]) -> None:
    """Do what a client asks for between its requests, and answer.

    Raises:
        Error: It can't be done; the message says why.
        DeviceLost: The client is gone.
    """
    if kind == messages.RESET:
        snapshot, goal_estimate = core.reset(payload.get("seed", -1))
        session.publish_goal_estimate(goal_estimate)
        session.publish(snapshot)
        session.done({"nominal": goal_estimate.size})
    elif kind == messages.RECOVER:
        require_permission(Permission.RECOVER, session.grant, "it asks to leave a fault")
        core.recover()
        session.done()
    elif kind == messages.IMAGES:
        session.publish_images(core.images())
        session.done()
    elif kind == messages.RENDER:
        session.send_picture(core.render(*picture_size(payload)))
    elif kind == messages.DUMP:
        session.done({"path": str(core.dump())})
    else:
        raise ProtocolMismatch(f"no such message: {kind!r}")


@contextlib.contextmanager
def handed_over(fd: int | None) -> Iterator[None]:
    """Close a descriptor that came with a message, once the message is dealt with."""
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def critic_of(fd: int | None) -> np.ndarray:
    """Return the array that came with a message about the risk critic; nothing is known of it.

    Raises:
        ProtocolMismatch: The message came without a descriptor.
        CheckpointError: It can't be read, or its size is none of a packed critic.
    """
    if fd is None:
        raise ProtocolMismatch("a risk critic comes in a file of its own, got none")
    return receive_array(fd)


def picture_size(payload: dict[str, Any]) -> tuple[str, int, int]:
    """Return camera, width and height of a render message.

    Raises:
        ProtocolMismatch: Not a name and two sizes in 1..4096 px.
    """
    camera, width, height = (payload.get(key) for key in ("camera", "width", "height"))
    sizes = [n for n in (width, height) if isinstance(n, int) and 1 <= n <= 4096]
    if not isinstance(camera, str) or len(sizes) != 2:
        raise ProtocolMismatch(
            f"a picture has a camera's name and sizes in 1..4096 px, got {payload}"
        )
    return camera, sizes[0], sizes[1]
