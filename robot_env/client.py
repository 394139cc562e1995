"""The env's side of the robot host: the same methods as `HostCore`, in another process."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from controllers.robot import REQUEST_SIZE, Request, Snapshot
from handrail.errors import DeviceLost, NotGranted, ProtocolMismatch
from robot_env.host import messages
from robot_env.host.authorization import Permission, why_refused
from robot_env.host.connect import Credentials, connect
from robot_env.host.heartbeat import Heartbeat
from robot_env.host.risk_critic_buffer import send_array
from robot_env.host.shared_memory import Segment, SeqlockBlock

if TYPE_CHECKING:
    from robot_env.tasks.base import Task

_RETRY = 0.02  # [s], between attempts to connect
_PAUSE = 5e-4  # [s], before another look at a block that is being written
_STALE = 1.0  # [s], real time: a snapshot this old means that the host hangs


class HostClient:
    """Authority over the arm of a running host, until closed; death of either side ends it."""

    def __init__(
        self,
        run_id: str,
        spec_hash: str | None = None,
        answer_within: float = 60.0,
        ask: Permission = Permission.POLICY,
        key: Path | None = None,
    ) -> None:
        """Remember whom to call; `connect` is the usual way to a client that stands.

        Args:
            run_id: Id of the run, as in its run.json.
            spec_hash: `EnvSpec.hash` of the task that the caller means; None takes any.
            answer_within: How long a call may take [s].
            ask: What to be granted beyond the policy's authority.
            key: File of the host's key, `Run.key`; needed to be granted more.
        """
        self._credentials = Credentials(run_id, spec_hash, ask | Permission.POLICY, key)
        self.grant = Permission.POLICY  # what the host granted
        self._answer_within = answer_within
        self._conn: socket.socket | None = None
        self._heartbeat: Heartbeat | None = None
        self._segment: Segment
        self._period = 0.1  # [s]
        self._next = 0.0  # [s], end of the period under way; real time
        self.welcome: dict[str, Any] = {}  # what the host said about itself

    @staticmethod
    def connect(
        run_id: str,
        task: Task | None = None,
        *,
        deadline: float = 120.0,
        answer_within: float = 60.0,
        ask: Permission = Permission.POLICY,
        key: Path | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> HostClient:
        """Return a client that has authority over the arm of a run.

        Args:
            run_id: Id of the run, as in its run.json.
            task: Task that the caller means; None takes what the host runs.
            deadline: How long to wait for the host to be ready, compiling included [s].
            answer_within: How long a call may take [s].
            ask: What to be granted beyond the policy's authority.
            key: File of the host's key, `Run.key`; needed to be granted more.
            between: Called between attempts; what it raises ends the wait.

        Raises:
            DeviceLost: No host answered in time, or another client has authority.
            ProtocolMismatch: The host speaks another version, or runs another task.
            NotGranted: The host doesn't grant what is asked.
        """
        spec_hash = None if task is None else task.spec.hash
        client = HostClient(run_id, spec_hash, answer_within, ask, key)
        client.reconnect(deadline, between)
        return client

    @property
    def realtime(self) -> bool:
        """Whether the host runs on its own clock."""
        return bool(self.welcome["realtime"])

    @property
    def refused(self) -> int:
        """Requests of this connection that the host refused."""
        return self._segment.refused

    def reconnect(
        self, deadline: float = 120.0, between: Callable[[], None] = lambda: None
    ) -> None:
        """Connect again after the host was lost; the next call must be `reset`.

        Nothing happens where the connection still stands.

        Args:
            deadline: How long to wait for a host that is ready [s].
            between: Called between attempts; what it raises ends the wait.

        Raises:
            DeviceLost: No host answered in time, or another client has authority.
            ProtocolMismatch: The host speaks another version, or runs another task.
            NotGranted: The host doesn't grant what this client asks.
        """
        if self._conn is not None:
            return
        end = time.monotonic() + deadline
        while True:
            try:
                self._connect(max(end - time.monotonic(), 1.0))
                return
            except DeviceLost as error:
                if time.monotonic() > end:
                    raise DeviceLost(
                        f"no robot host for run {self._credentials.run_id} within {deadline:g} s "
                        f"(last: {error}); start one with `handrail host --run <folder>`"
                    ) from None
            between()
            time.sleep(_RETRY)

    def reset(self, seed: int) -> tuple[Snapshot, np.ndarray]:
        """Start a new episode; the same seed gives the same start.

        Args:
            seed: Everything random about the episode comes from it.

        Returns:
            The first snapshot and the task's goal estimate.

        Raises:
            DeviceLost: The host is gone.
        """
        reply = self._call(messages.RESET, {"seed": int(seed)})
        values = self._read(self._segment.goal_estimate)
        self._next = time.monotonic() + self._period
        return self._snapshot(), values[: int(reply["nominal"])]

    def step(self, request: Request) -> Snapshot:
        """Ask for one policy period and return what the host says at its end.

        In real time the host's clock runs on by itself: this waits for the period's end on an
        absolute schedule and returns the newest snapshot.

        Raises:
            DeviceLost: The host is gone, or it cut the episode; reset first.
            ProtocolMismatch: The request was refused and changed nothing.
            NotGranted: It names an authority that this client was not granted; it changed nothing.
        """
        values = request.pack()
        if values.shape != (REQUEST_SIZE,):
            raise ProtocolMismatch(
                f"a request has position (3,) and quaternion (4,), got {request}"
            )
        if not self.realtime:
            self._segment.request.write(values)
            self._call(messages.STEP)
            return self._snapshot()
        return self._step_realtime(values)

    def peek(self) -> Snapshot:
        """Return the newest snapshot without asking for anything.

        Raises:
            DeviceLost: Not connected, or there is none.
        """
        self._connection()
        return self._snapshot()

    def images(self) -> dict[str, np.ndarray]:
        """Return the task's camera images, name -> (H, W, 3) uint8."""
        if not self._segment.images:
            return {}
        self._call(messages.IMAGES)
        return {name: image.copy() for name, image in self._segment.images.items()}

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """Return a picture of the scene, (height, width, 3) uint8.

        Args:
            camera: Name of the camera in the scene.
            width: [px].
            height: [px].
        """
        payload = {"camera": camera, "width": int(width), "height": int(height)}
        reply = self._call(messages.RENDER, payload)
        fd = reply.pop("fd", None)
        if fd is None:
            raise ProtocolMismatch("the host answered a render without a picture")
        try:
            with mmap.mmap(fd, width * height * 3, access=mmap.ACCESS_READ) as picture:
                return np.frombuffer(bytes(picture), np.uint8).reshape(height, width, 3)
        finally:
            os.close(fd)

    def dump(self) -> str:
        """Have the host write its flight recorder to the run folder and return the file's path."""
        return str(self._call(messages.DUMP)["path"])

    def load_critic(self, array: np.ndarray) -> int:
        """Hand the host a packed risk critic and return the newest version that it holds.

        Raises:
            CheckpointError: The host refused it; its last good one stays.
            DeviceLost: The host is gone.
        """
        fd = send_array(array)
        try:
            return int(self._call(messages.CRITIC, {}, fd)["version"])
        finally:
            os.close(fd)

    def recover(self) -> None:
        """Have the robot leave its fault; to be called because a person said so, never by a policy.

        Nothing moves before the next `reset`.

        Raises:
            Error: It can't be left; the message says what a person has to do.
            NotGranted: This client didn't ask for `Permission.RECOVER` when it connected.
        """
        self._call(messages.RECOVER)

    def close(self) -> None:
        """Give the authority back; safe to call twice."""
        if self._conn is not None:
            with contextlib.suppress(DeviceLost):
                messages.send(self._conn, messages.CLOSE)
            self._drop()

    def __enter__(self) -> HostClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, wait: float) -> None:
        connection = connect(self._credentials, wait, self._answer_within)
        self._conn, self.welcome, self._segment, self._period, self.grant = connection
        self._next = time.monotonic()
        if self.realtime:
            self._heartbeat = Heartbeat(self._segment)

    def _step_realtime(self, values: np.ndarray) -> Snapshot:
        conn, refused = self._connection(), self._segment.refused
        not_granted = self._segment.not_granted
        self._segment.request.write(values)
        before = self._segment.snapshot.sequence
        begin = time.monotonic()
        end = self._next if self._next > begin else begin + self._period
        self._next = end + self._period
        self._wait_until(conn, end)
        while self._segment.snapshot.sequence == before:
            if time.monotonic() - begin > _STALE + self._period:
                self._lose(f"its state is older than {_STALE} s: it hangs")
            self._wait_until(conn, time.monotonic() + 0.001)
        snapshot = self._snapshot()
        if self._segment.not_granted != not_granted:
            why = why_refused(int(values[1]), self.grant)
            raise NotGranted(f"the host refused request {int(values[0])}: {why}")
        if self._segment.refused != refused:
            raise ProtocolMismatch(f"the host refused request {int(values[0])}: {values[1:]}")
        return snapshot

    def _wait_until(self, conn: socket.socket, end: float) -> None:
        poller = select.poll()
        poller.register(conn, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            if left < 0.002:
                time.sleep(left)
            elif poller.poll((left - 0.001) * 1e3):
                try:  # nothing was asked, so this is a last word or the end
                    kind, payload, _ = messages.receive(conn)
                except DeviceLost:
                    self._lose("it died or closed the connection")
                else:
                    self._answer(kind, payload)

    def _call(
        self, kind: bytes, payload: dict[str, Any] | None = None, send_fd: int | None = None
    ) -> dict[str, Any]:
        conn = self._connection()
        try:
            messages.send(conn, kind, payload, send_fd)
            answer, reply, fd = messages.receive(conn)
        except TimeoutError:
            self._lose(f"it did not answer within {self._answer_within:g} s")
        except DeviceLost:
            self._lose("it died or closed the connection")
        if fd is not None:
            reply["fd"] = fd
        return self._answer(answer, reply)

    def _answer(self, kind: bytes, reply: dict[str, Any]) -> dict[str, Any]:
        if kind == messages.ERROR:
            if reply.get("fatal"):
                self._drop()
            messages.raise_error(reply)
        return reply

    def _connection(self) -> socket.socket:
        if self._conn is None:
            raise DeviceLost("not connected to the robot host; call reconnect()")
        return self._conn

    def _snapshot(self) -> Snapshot:
        return Snapshot.unpack(self._read(self._segment.snapshot))

    def _read(self, block: SeqlockBlock) -> np.ndarray:
        end = time.monotonic() + _STALE
        while (found := block.read()) is None:  # the host may be off its core in mid-write
            if time.monotonic() > end:
                self._lose("it died or hangs in the middle of a write")
            time.sleep(_PAUSE)
        return found[1]

    def _lose(self, why: str) -> NoReturn:
        self._drop()
        raise DeviceLost(f"lost the robot host of run {self._credentials.run_id}: {why}")

    def _drop(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        if self._conn is not None:
            self._conn.close()
            self._conn = None
