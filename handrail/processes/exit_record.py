"""What a process of a run says of itself: how far it is, and why it ended.

Each start has one small JSON file, named by the environment, which the supervisor empties before
and reads after. A process writes there what it is doing ("starting", "running", "saving") and, when
it ends by an exception, the exception's type, message and place. What kills a process at once
leaves nothing there: then its signal or exit code is known, and what faulthandler wrote.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

RECORD_ENV = "HANDRAIL_EXIT_RECORD"  # environment: file of this start's record
STARTING, RUNNING, SAVING = "starting", "running", "saving"
LONGEST = 300  # [characters], of a message
_PACKAGES = ("actor", "controllers", "handrail", "learner", "rewards", "robot_env")
_OWN_ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_lock = threading.RLock()
_path: str | None = None
_record: dict[str, Any] = {}
_faults: IO[str] | None = None


def keep_exit_record() -> None:
    """Write this start's record from now on; nothing happens where nobody asked for one."""
    global _faults, _path
    _path = path = os.environ.get(RECORD_ENV)
    if not path:
        return
    _update(pid=os.getpid(), state=STARTING, worked=False)
    with contextlib.suppress(OSError):
        _faults = open(f"{path}.fault", "w", encoding="utf-8")  # noqa: SIM115 - open to the end
        faulthandler.enable(_faults)
    before = sys.excepthook

    def main_thread(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        record_error(error)
        before(kind, error, trace)

    thread_before = threading.excepthook

    def other_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            _update(thread=cause_of(args.exc_value))
        thread_before(args)

    sys.excepthook, threading.excepthook = main_thread, other_thread


def record_state(state: str) -> None:
    """Say how far this process is; from RUNNING on its end is no death at the start."""
    _update(state=state, worked=_record.get("worked", False) or state == RUNNING)


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Say that data is being saved: whoever ends the process waits for it."""
    before = _record.get("state", RUNNING)
    record_state(SAVING)
    try:
        yield
    finally:
        record_state(before)


def is_saving() -> bool:
    """Return whether data is being saved now."""
    return _record.get("state") == SAVING


def record_error(error: BaseException) -> None:
    """Write down what ends this process."""
    _update(**cause_of(error))


def record_end(code: int) -> None:
    """Write down that this process ends in an orderly way, and by which exit code."""
    _update(code=code)


def cause_of(error: BaseException) -> dict[str, str]:
    """Return an error's "error" (type), "message" and "where" (file:line)."""
    text = " ".join(str(error).split())
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return {"error": type(error).__name__, "message": short, "where": place_of(error)}


def describe_error(error: BaseException) -> str:
    """Return type, message and place of an error in one line."""
    return describe_cause(cause_of(error))


def describe_cause(cause: dict[str, Any]) -> str:
    """Return what `cause_of` found in one line."""
    message, where = cause.get("message"), cause.get("where")
    text = f"{cause.get('error')}: {message}" if message else str(cause.get("error"))
    return f"{text} at {where}" if where else text


def place_of(error: BaseException) -> str:
    """Return file:line of the innermost frame of the user's own code, else of Handrail's.

    Errors that this one came from are asked too: what wraps a user's error is not its place.
    """
    frames = list(_frames(error))
    found = [frame for frame in frames if is_users(frame.filename)]
    found += [frame for frame in frames if _is_own(frame.filename)]
    return f"{found[0].filename}:{found[0].lineno}" if found else ""


def comes_from_user(error: BaseException) -> bool:
    """Return whether an error has gone through the user's own code."""
    return any(is_users(frame.filename) for frame in _frames(error))


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """Yield the frames of an error, the innermost first, then of those that it came from."""
    seen: set[int] = set()
    asked: BaseException | None = error
    while asked is not None and id(asked) not in seen:
        seen.add(id(asked))
        yield from reversed(traceback.extract_tb(asked.__traceback__))
        asked = asked.__cause__ or asked.__context__


def is_users(filename: str) -> bool:
    """Return whether code of a file is neither Handrail's nor a library's."""
    if filename.startswith("<"):  # made at run time
        return False
    path = os.path.abspath(filename)
    in_library = "site-packages" in path or "dist-packages" in path
    in_library = in_library or any(path.startswith(f"{root}{os.sep}") for root in _LIBRARIES)
    return not in_library and not _is_own(path)


def _is_own(filename: str) -> bool:
    path = Path(os.path.realpath(filename))
    if not path.is_relative_to(_OWN_ROOT):
        return False
    return path.relative_to(_OWN_ROOT).parts[0] in _PACKAGES


def _update(**values: Any) -> None:
    with _lock, contextlib.suppress(OSError):
        _record.update(values)
        if _path is None:
            return
        temporary = f"{_path}.tmp"
        with open(temporary, "w", encoding="utf-8") as out:
            json.dump(_record, out)
        os.replace(temporary, _path)
