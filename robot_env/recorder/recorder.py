"""A host's side of the flight recorder: its ring, and the writer process that saves it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numba
import numpy as np

from controllers.config import ControlConfig
from controllers.kernel import chain_digest
from handrail.config import digest, to_dict
from handrail.errors import StorageError
from handrail.renamed_keys import to_original
from handrail.run_folder import Run
from robot_env.recorder.ring import NAME, Ring
from robot_env.recorder.ring_placement import MEMORY
from robot_env.recorder.ring_record import RingView, layout
from robot_env.recorder.writer_process import WriterProcess

log = logging.getLogger("host")


class Recorder:
    """Records every tick of a host's robot from now on."""

    def __init__(self, run: Run, seconds: float, keep: int, about: dict[str, Any]) -> None:
        """Save what a killed host has left, then begin.

        Args:
            run: The run; the ring is in its folder, recordings in `recordings/`.
            seconds: How much to remember [s].
            keep: Newest recordings that stay [files].
            about: See `describe`.

        Raises:
            StorageError: The ring can't be made.
        """
        path = run.folder / NAME
        self._writer = WriterProcess(path, recordings(run.folder), keep)
        try:
            found = self._writer.recover()
            if found is not None:
                log.warning("the last host was killed; what it did last: recording %s", found)
        except StorageError as error:
            log.error("what the last host left can't be saved: %s", error)
        memory = MEMORY if about["realtime"] else None
        whose = {"run": run.id, "task": run.task}
        try:
            self._ring = Ring(path, seconds, about["dt"], whose | about, memory)
        except BaseException:
            self._writer.close()
            raise
        if about["realtime"]:
            self._ring.prefault_pages()

    @property
    def ring_view(self) -> RingView:
        """Where the control loop writes."""
        return self._ring.ring_view

    def wake(self, now: int, late: int) -> None:
        """Say when the loop woke up [ns, monotonic] and how many ticks have come late so far."""
        self._ring.wake(now, late)

    def note(self, what: str) -> None:
        """Remember an event, from any thread; the first 96 bytes of it."""
        self._ring.note(what)

    def save(self, why: str) -> Path:
        """Write a recording of the last seconds and return its path; takes seconds, blocks nobody.

        Raises:
            StorageError: It can't be written.
        """
        return self._writer.save(why)

    def close(self, whole: bool = True) -> None:
        """Stop recording; safe to call twice.

        Args:
            whole: False where the host ends by an error: then the writer process saves the ring.
        """
        self._ring.close(whole)
        self._writer.close()


def recordings(folder: Path) -> Path:
    """Return where a run's recordings are."""
    return folder / "recordings"


def describe(params: np.ndarray, control: ControlConfig, realtime: bool) -> dict[str, Any]:
    """Return what a recording says about the chain that it is of, as JSON.

    Args:
        params: Packed, see `controllers.packed.PARAM`.
        control: Table [control].
        realtime: Whether ticks run on the clock.
    """
    return {
        "realtime": realtime,
        "dt": control.dt,
        "params": params.tolist(),
        "control": digest(to_original("control", to_dict(control))),
        "code": chain_digest(),
        "numba": numba.__version__,
        "layout": layout(),
    }
