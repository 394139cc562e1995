"""TensorBoard's view of a run: the same rows as the metrics file, as curves."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from handrail.run_folder import Run

_NAMES = {"kind", "role", "time", "env_steps", "episode", "start", "step"}  # not curves themselves


class TensorBoardWriter:
    """Writes rows of metrics to the run's tensorboard folder.

    The folder is only a view: it is made anew from the metrics file each time a run is started or
    resumed. Without tensorboardX, or on a full disk, nothing is written and nothing fails.
    """

    def __init__(self, run: Run) -> None:
        self._writer: Any = None
        self._folder = run.folder / "tensorboard"
        self._begun = run.elapsed()
        self._origin = time.time() - self._begun
        self._waiting: list[dict[str, Any]] | None = []  # until something is new in the run

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write each number in the rows as a point of a curve."""
        if self._waiting is not None:
            rows, self._waiting = [*self._waiting, *rows], None
            if not any(float(row.get("time") or 0.0) > self._begun for row in rows):
                self._waiting = rows
                return
            self._open()
        if self._writer is None:
            return
        try:
            for row in rows:
                step = int(row.get("step" if row["kind"] == "base" else "env_steps") or 0)
                moment = self._origin + float(row.get("time") or 0.0)
                for name, value in scalars(row).items():
                    self._writer.add_scalar(name, value, step, walltime=moment)
        except OSError:
            self._writer = None

    def _open(self) -> None:
        with contextlib.suppress(ImportError, OSError):
            from tensorboardX import SummaryWriter

            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = SummaryWriter(str(self._folder), flush_secs=10)

    def close(self) -> None:
        """Write what is left and close."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row by the name of their curve: "kind/key"."""
    kind = row["kind"]
    if kind == "eval":
        kind = f"eval/{row.get('policy')}"
    if kind == "episode" and row.get("phase") == "record":
        kind = "record"
    return {
        f"{kind}/{key}": float(value)
        for key, value in row.items()
        if key not in _NAMES and isinstance(value, int | float)
    }
