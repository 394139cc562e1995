"""MuJoCo's own window on the host's scene, where there is a display."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

log = logging.getLogger("host")

_FRAME = 1.0 / 30.0  # [s], wall time between pictures


class Viewer:
    """The window; without a display it says so once and shows nothing."""

    def __init__(self, model: Any, data: Any) -> None:
        """Open the window.

        Args:
            model: `mujoco.MjModel`.
            data: `mujoco.MjData` that the robot steps.
        """
        self._handle: Any = None
        self._next = 0.0
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not display:
            log.warning("--view: there is no display (DISPLAY is not set); going on without")
            return
        import mujoco.viewer

        self._handle = mujoco.viewer.launch_passive(
            model, data, show_left_ui=False, show_right_ui=False
        )

    def sync(self) -> None:
        """Show the newest state, 30 times a second at most; nothing after the window was closed."""
        now = time.monotonic()
        if self._handle is None or now < self._next:
            return
        self._next = now + _FRAME
        if self._handle.is_running():
            self._handle.sync()

    def close(self) -> None:
        """Close the window; safe to call twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
