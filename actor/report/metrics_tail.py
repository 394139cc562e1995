"""Follow a metrics file that several processes append to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class MetricsTail:
    """Hands out each complete row of a file of JSON lines once, as it appears."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows that are new since the last call; a half-written line is left for later.

        A missing file has no rows, and a damaged line is passed over.
        """
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [row for line in data[:end].splitlines() if (row := _row(line)) is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("kind"), str) else None
