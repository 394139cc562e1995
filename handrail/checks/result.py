"""What a check says."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"
ROLES = ("host", "actor", "learner", "sim", "dev")


class CheckResult(NamedTuple):
    """What a check found."""

    group: str
    name: str
    state: str  # OK, WARN: works but worse, or FAIL: the roles don't work
    text: str
    remedy: str = ""  # the line that fixes it
    roles: tuple[str, ...] = ROLES  # whom it concerns
