"""Who may ask for what: a session's permission, and the key that proves the right to more.

The kernel says which user a client is; another user gets nothing. Of the host's own user, every
client may ask as the policy. Whoever can read the key, a file of mode 0600 in the run folder that
each host writes anew, may ask for more when it connects, within what the run's config allows. What
a message says of itself counts for nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from enum import IntFlag
from hmac import compare_digest as _same
from pathlib import Path
from typing import Any

from controllers.robot import Authority
from handrail.errors import NotGranted, RunFolderError


class Permission(IntFlag):
    """What a session may ask for; moving as a script is the host's own and never granted."""

    POLICY = 1  # to move the arm as the policy: every client's
    HUMAN = 2  # to move it as a person, and to be lent a person's energy
    RECOVER = 4  # to leave a fault of the robot, because a person said so


_NEEDED = {int(Authority.POLICY): Permission.POLICY, int(Authority.HUMAN): Permission.HUMAN}


def why_refused(authority: int, grant: Permission) -> str:
    """Return why a session may not ask with an authority, or "" where it may.

    Args:
        authority: What the request says of itself; any number.
        grant: Of the session.
    """
    needed = _NEEDED.get(authority)
    if needed is not None:
        return (
            ""
            if needed in grant
            else _lacks(f"it asks as {Authority(authority).name}", needed, grant)
        )
    if authority == Authority.SCRIPT:
        return "it asks as SCRIPT, which is the host's own; ask as POLICY, or for a reset"
    return f"it asks as authority {authority}; ask as one of {[int(s) for s in _NEEDED]}"


def require_permission(needed: Permission, grant: Permission, what: str) -> None:
    """Refuse what a session was not granted.

    Args:
        needed: What it takes.
        grant: Of the session.
        what: What was asked for, for the message.

    Raises:
        NotGranted: The session lacks it.
    """
    if needed not in grant:
        raise NotGranted(f"refused: {_lacks(what, needed, grant)}")


class HostKey:
    """The key of one host's life, and what it opens."""

    def __init__(self, path: Path, human: bool) -> None:
        """Write a new key.

        Args:
            path: Of the key's file; one that is there is replaced.
            human: Whether the run's config has a person who may take the arm over.

        Raises:
            RunFolderError: The file can't be written.
        """
        self._path, self._key = path, secrets.token_hex(32)
        self._opens = (
            Permission.POLICY | Permission.RECOVER | (Permission.HUMAN if human else Permission(0))
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "w", encoding="ascii") as out:
                out.write(self._key)
            os.replace(temporary, path)
        except OSError as error:
            raise RunFolderError(f"can't write the host's key {path}: {error}") from None

    def claim(self, payload: dict[str, Any]) -> Permission:
        """Return what a client is granted that shows a key.

        Args:
            payload: `key` and `ask` of its message; nothing is known of it.

        Raises:
            NotGranted: The key is another, or the run's config doesn't allow what is asked.
        """
        key, ask = payload.get("key"), payload.get("ask")
        if not isinstance(key, str) or not key.isascii() or not _same(key, self._key):
            raise NotGranted(
                f"refused: the key is not this host's; read {self._path.name} in the run folder "
                f"of the host that runs now"
            )
        if type(ask) is not int or not 0 < ask <= int(_ALL):
            raise NotGranted(
                f"refused: ask for a sum of {[int(g) for g in Permission]}, got {ask!r}"
            )
        if Permission(ask) not in self._opens:
            raise NotGranted(
                f"refused: {_names(Permission(ask))} was asked for, this run allows "
                f"{_names(self._opens)}; set [host] human = true or [operator] enabled = true"
            )
        return Permission.POLICY | Permission(ask)

    def close(self) -> None:
        """Remove the key; safe to call twice."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_key(path: Path) -> str:
    """Return the key of the host that runs now.

    Raises:
        NotGranted: There is none, or this user may not read it.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise NotGranted(
            f"can't read the host's key {path}: {error}; the host writes it for its own user"
        ) from None


_ALL = Permission.POLICY | Permission.HUMAN | Permission.RECOVER


def _lacks(what: str, needed: Permission, grant: Permission) -> str:
    return (
        f"{what}, which takes {_names(needed)}; this session was granted {_names(grant)}. Ask for "
        f"it with the host's key when connecting"
    )


def _names(grant: Permission) -> str:
    return " + ".join(str(g.name) for g in Permission if g in grant) or "nothing"
