"""Simulated cameras: headless, lazily created, cheap for policies and pretty for people."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from handrail.errors import DeviceLost

POLICY_CAMERAS = ("wrist", "front")


class SimCameras:
    """Renders the cameras of a scene from the newest simulated state.

    Contexts are made at the first picture, in the thread that asks for it, and belong to it. For
    policies shadows, reflections and multisampling are off: with them a picture costs ten times as
    much on a machine without an accelerator.
    """

    def __init__(self, model: Any, data: Any, size: int = 128) -> None:
        """Remember what to render; nothing is opened yet.

        Args:
            model: `mujoco.MjModel`.
            data: `mujoco.MjData` that the robot steps.
            size: Height and width of the policy's images [px].
        """
        self._model, self._data, self._size = model, data, size
        self._renderers: dict[tuple[int, int, bool], Any] = {}

    def images(self) -> dict[str, np.ndarray]:
        """Return the policy's images now, name -> (size, size, 3) uint8, copies."""
        return {name: self.render(name, self._size, self._size, False) for name in POLICY_CAMERAS}

    def render(self, camera: str, width: int, height: int, pretty: bool = True) -> np.ndarray:
        """Return a picture of now (height, width, 3) uint8.

        Args:
            camera: Name of a camera of the scene.
            width: [px].
            height: [px].
            pretty: With shadows and smooth edges.

        Raises:
            DeviceLost: No GL here, or no such camera; the message says what would be right.
        """
        key = (width, height, pretty)
        if key not in self._renderers:
            self._renderers[key] = self._open(width, height, pretty)
        renderer = self._renderers[key]
        try:
            renderer.update_scene(self._data, camera=camera)
        except ValueError as error:
            raise DeviceLost(f"can't look through camera {camera!r}: {error}") from None
        _set_flags(renderer, pretty)
        return renderer.render()

    def close(self) -> None:
        """Free the contexts; safe to call twice, from the thread that rendered."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}

    def _open(self, width: int, height: int, pretty: bool) -> Any:
        if sys.platform.startswith("linux"):
            os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("LP_NUM_THREADS", "1")  # llvmpipe's threads take the learner's core
        import mujoco

        self._model.vis.quality.offsamples = 4 if pretty else 0
        self._model.vis.quality.shadowsize = 4096 if pretty else 512
        self._model.vis.quality.numslices = 28 if pretty else 16  # half the time of a small picture
        self._model.vis.quality.numstacks = 16 if pretty else 8
        try:
            return mujoco.Renderer(self._model, height, width)
        except Exception as error:  # each GL backend raises its own kind
            raise DeviceLost(
                f"can't open a GL context ({os.environ.get('MUJOCO_GL', 'default')}): {error}; "
                "install one with: apt-get install -y libegl1 libgl1-mesa-dri"
            ) from None


def _set_flags(renderer: Any, pretty: bool) -> None:
    from mujoco import mjtRndFlag  # pyright: ignore[reportAttributeAccessIssue]

    renderer.scene.flags[int(mjtRndFlag.mjRND_SHADOW)] = int(pretty)
    renderer.scene.flags[int(mjtRndFlag.mjRND_REFLECTION)] = int(pretty)
