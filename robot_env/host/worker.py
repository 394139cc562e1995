"""What takes longer than a tick, beside the real-time loop: pictures, files, critics."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from handrail.errors import DeviceLost, Error
from robot_env.host import messages
from robot_env.host.core import HostCore
from robot_env.host.lockstep_server import picture_size
from robot_env.host.socket import ClientSession

log = logging.getLogger("host")


class BackgroundWorker:
    """A thread that works from copies of the state."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self._mirror: Any = None
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def do(self, session: ClientSession, kind: bytes, payload: dict[str, Any]) -> None:
        """Answer a message later, from the state as it is now."""
        if kind == messages.DUMP:
            self._work.put(
                lambda: self._answer(session, lambda: session.done(_path(self._core.dump())))
            )
            return
        picture = picture_size(payload) if kind == messages.RENDER else None
        cameras = self._cameras()
        if picture is None:
            self._work.put(lambda: self._answer(session, lambda: _show(session, cameras.images())))
        else:
            self._work.put(
                lambda: self._answer(
                    session, lambda: session.send_picture(cameras.render(*picture))
                )
            )

    def load_critic(self, session: ClientSession, array: np.ndarray) -> None:
        """Check a risk critic and take it, and answer; the loop switches to it between ticks."""

        def load() -> None:
            session.done({"version": self._core.load_critic(array)})

        self._work.put(lambda: self._answer(session, load))

    def open_cameras(self) -> None:
        """Open what pictures need, and wait: it holds the interpreter's lock for many ticks."""
        cameras, done = self._cameras(), threading.Event()
        self._work.put(cameras.images)
        self._work.put(done.set)
        done.wait(30.0)

    def record(self, why: str) -> None:
        """Write a recording of the last seconds."""
        self._work.put(lambda: self._core.try_dump(why))

    def _cameras(self) -> Any:
        # not at the top: robot_env.arms chooses the GL backend before mujoco is imported
        from mujoco import MjData, mj_copyData  # pyright: ignore[reportAttributeAccessIssue]

        model, data = self._core.robot.model, self._core.robot.data
        if self._mirror is None:
            self._mirror = MjData(model)
        mj_copyData(self._mirror, model, data)
        return self._core.cameras(self._mirror)

    def close(self) -> None:
        """Finish what was begun."""
        self._work.put(None)
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            try:
                job()
            except Error as error:
                log.error("%s", error)
        self._core.close()

    def _answer(self, session: ClientSession, job: Callable[[], None]) -> None:
        with contextlib.suppress(DeviceLost):  # the client is gone; the loop sees that too
            try:
                job()
            except Error as error:
                session.refuse(error)


def _path(path: Any) -> dict[str, str]:
    return {"path": str(path)}


def _show(session: ClientSession, images: dict[str, Any]) -> None:
    session.publish_images(images)
    session.done()
