"""Names of tasks that are gymnasium environments."""

from __future__ import annotations

GYM = "gym:"  # before the id of any registered environment
METAWORLD = "metaworld:"  # before the name of a Meta-World task


def prefix_of(name: str) -> str | None:
    """Return the prefix of a task's name where it is a gymnasium environment, else None."""
    return next((prefix for prefix in (GYM, METAWORLD) if name.startswith(prefix)), None)
