"""Metrics as JSON lines that several processes append to one file."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from handrail.run_folder import Run


class Metrics:
    """Appends rows to the run's metrics file; each row is one write, so rows never interleave."""

    def __init__(self, run: Run, role: str) -> None:
        self._run = run
        self._role = role
        self._fd = os.open(run.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._start_on_a_new_line()

    def write(self, kind: str, **values: Any) -> None:
        """Append one row.

        A full disk must not stop a robot: a row that can't be written is dropped.

        Args:
            kind: What the row is about: "episode", "actor", "learner", "eval", "phase", ….
            values: Scalars, strings, or short lists; numbers that aren't finite become null.
        """
        row = {"kind": kind, "role": self._role, "time": round(self._run.elapsed(), 3)}
        row.update({key: _plain(value) for key, value in values.items()})
        try:
            os.write(self._fd, (json.dumps(row, separators=(",", ":")) + "\n").encode())
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _start_on_a_new_line(self) -> None:
        size = os.fstat(self._fd).st_size
        with open(self._run.metrics, "rb") as file:
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":
                os.write(self._fd, b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
