"""The host process in real time: 1 kHz on its own clock, whether or not anybody asks."""

from __future__ import annotations

import logging
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from controllers.robot import Fault, Mode, Request
from handrail.errors import DeviceLost, Error, ProtocolMismatch
from robot_env.arms.base import Clock
from robot_env.host import messages
from robot_env.host.config import HostConfig
from robot_env.host.core import HostCore
from robot_env.host.lockstep_server import (
    answer,
    count_refusal,
    critic_of,
    handed_over,
    parse_request,
)
from robot_env.host.socket import ClientSession, HostSocket
from robot_env.host.worker import BackgroundWorker
from robot_env.scheduling import PeriodicTimer, acquire_rt_privileges

log = logging.getLogger("host")

_PRIVILEGED_STATE_TICKS = (
    10  # [ticks], between looks at the simulation's truth: 100 Hz is enough for a flag
)
_AFTERMATH = 1.5  # [s] of ticks after a loss that go into its recording
_GOODBYE = 0.5  # [s] of soft stop before the process ends


class RealtimeServer:
    """Serves one client at a time between ticks; the arm is held when its heart stops."""

    def __init__(
        self,
        core: HostCore,
        host_socket: HostSocket,
        config: HostConfig,
        stop: threading.Event,
        wake: socket.socket,
        after_tick: Callable[[], None] | None = None,
    ) -> None:
        """Set up; arguments as `LockstepServer`."""
        self._core, self._host_socket, self._config, self._stop = core, host_socket, config, stop
        self._after = after_tick or (lambda: None)
        self._session: ClientSession | None = None
        self._poller = select.poll()
        for source in (wake, host_socket.socket):
            self._poller.register(source, select.POLLIN)
        self._beats = 0  # newest heartbeat seen
        self._beat_time = -math.inf  # [s], when it was seen first
        self._seen = 0  # sequence of the newest request seen in shared memory
        self._record: tuple[float, str] | None = None  # when to write a recording, and why
        self._privileged_state = np.zeros(16)
        self._timer: Clock = core.robot.clock or PeriodicTimer(1e-3)
        self._late = 0  # late ticks before this period
        self._ticks = 0  # of this period
        self._worker = BackgroundWorker(core)

    def run(self) -> None:
        """Tick until a signal comes; the arm is at rest when this returns."""
        if self._core.task.spec.images:
            self._worker.open_cameras()
        privileges = acquire_rt_privileges(self._config.priority, self._config.core)
        log.info("real time: %s, no garbage collection", ", ".join(privileges.granted) or "nothing")
        for refused in privileges.refused:
            log.warning("not granted: %s", refused)
        sys.setswitchinterval(5e-4)  # a thread that renders may not keep the loop waiting
        end = math.inf
        self._timer.restart()
        while time.monotonic() < end:
            due = self._wait(self._timer)
            if self._stop.is_set() and end == math.inf:
                self._core.end_episode("the host was told to stop")
                self._core.robot.stop()
                end = time.monotonic() + _GOODBYE
            self.tick(due)
        mode = Mode(self._core.robot.snapshot().mode)
        log.info("arm in %s, %d late ticks", mode.name, self._timer.late)
        if self._session is not None:
            self._hang_up()
        if self._record is not None:
            self._worker.record(self._record[1])
        self._worker.close()

    def tick(self, due: int) -> None:
        """Run the ticks that are due, tell the client, and do what it asks for between ticks.

        A period begins with the tick that takes a request, so that its sums and peaks are those
        that lockstep gives for the same request after as many ticks.

        Args:
            due: Ticks to run [-], 1 unless some were missed.
        """
        core, robot = self._core, self._core.robot
        request = self._new_request()
        if request is not None:
            self._ticks, self._late = 0, self._timer.late
        self._ticks += due
        robot.heartbeat_age = self._heartbeat_age()
        robot.late_ticks = self._timer.late - self._late
        core.critic.switch()
        robot.critic = core.critic.active
        followed = None if core.readonly else request
        snapshot = robot.run(followed, due, begin=request is not None)
        if (self._ticks - core.ticks) % _PRIVILEGED_STATE_TICKS < due:  # also at a period's end
            self._privileged_state = core.privileged_state()
        snapshot.privileged_state[:] = self._privileged_state
        if core.watch(snapshot):
            self._record_soon(Fault(snapshot.fault).name)
        if self._session is not None:
            self._session.publish(snapshot)
        self._after()
        self._serve()

    def _wait(self, timer: Clock) -> int:
        """Return how many ticks are due at the next deadline; of an overrun none are made up."""
        due = timer.wait()
        if self._core.recorder is not None:
            self._core.recorder.wake(timer.woke, timer.late)
        if not 0 < self._config.overrun <= timer.missed:
            return due
        self._core.note(f"overrun: {timer.missed} ticks missed at once")
        self._core.robot.stop(Fault.OVERRUN)
        return 1

    def _new_request(self) -> Request | None:
        """Return a request that came since the last tick, if it was admitted."""
        session = self._session
        if session is None:
            return None
        if session.segment.request.sequence == self._seen:
            return None
        found = session.segment.request.read()
        if found is None:  # half written: the next tick looks again
            return None
        self._seen, values = found
        try:
            request = parse_request(self._core, session, values)
            self._core.admit(request)
        except Error as error:
            count_refusal(self._core, session, error)
            return None
        return request

    def _heartbeat_age(self) -> float:
        if self._session is None:
            return math.inf
        beats, now = self._session.segment.heartbeat, time.monotonic()
        if beats != self._beats:
            self._beats, self._beat_time = beats, now
        return now - self._beat_time

    def _serve(self) -> None:
        for fd, _ in self._poller.poll(0):
            if self._session is not None and fd == self._session.conn.fileno():
                self._listen(self._session)
            elif fd == self._host_socket.socket.fileno():
                self._admit()
        if self._record is not None and time.monotonic() > self._record[0]:
            self._worker.record(self._record[1])
            self._record = None

    def _admit(self) -> None:
        def make(conn: socket.socket, pid: int) -> ClientSession:
            return ClientSession(conn, pid, self._core.task.spec, True, self._host_socket.host_key)

        session = self._host_socket.accept(self._session, make)
        if session is not None:
            session.conn.setblocking(False)
            self._session, self._seen, self._beats = session, 0, 0
            self._beat_time = time.monotonic()
            self._core.end_episode("a new client has to begin an episode")
            self._poller.register(session.conn, select.POLLIN)

    def _listen(self, session: ClientSession) -> None:
        try:
            kind, payload, fd = messages.receive(session.conn)
            if kind == messages.CLOSE:
                log.info("process %d gave its authority back", session.pid)
                self._lose("the client left", record=False)
                return
            try:
                with handed_over(fd):
                    self._do(session, kind, payload, fd)
            except Error as error:
                session.refuse(error)
                snapshot = self._core.robot.snapshot()
                if kind == messages.RESET and self._core.watch(snapshot, moving=True):
                    self._record_soon(Fault(snapshot.fault).name)
        except ProtocolMismatch as error:
            log.warning("process %d: %s; hung up", session.pid, error)
            self._lose("the client broke the protocol")
        except (DeviceLost, TimeoutError, BlockingIOError):
            log.warning("process %d, which had authority, is gone", session.pid)
            self._lose("the client was lost")

    def _do(
        self, session: ClientSession, kind: bytes, payload: dict[str, Any], fd: int | None
    ) -> None:
        if kind == messages.CLAIM:
            session.claim(payload)
            return
        if kind == messages.CRITIC:
            self._worker.load_critic(session, critic_of(fd))
            return
        if kind in (messages.IMAGES, messages.RENDER, messages.DUMP):
            self._worker.do(session, kind, payload)
            return
        answer(self._core, session, kind, payload)
        self._beat_time = time.monotonic()  # nobody could beat while the scene was set up
        self._late, self._ticks = self._timer.late, 0
        self._privileged_state = self._core.privileged_state()
        self._timer.restart()

    def _record_soon(self, why: str) -> None:
        self._record = (time.monotonic() + _AFTERMATH, why)

    def _lose(self, why: str, record: bool = True) -> None:
        self._core.note(why)
        if record and self._core.in_episode:
            self._record_soon(why)
        self._core.end_episode(why)
        self._hang_up()

    def _hang_up(self) -> None:
        assert self._session is not None
        self._poller.unregister(self._session.conn)
        self._session.close()
        self._session = None
