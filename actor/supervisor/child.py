"""One process of a run: started with a record of its own, and asked afterwards why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handrail.errors import Error
from handrail.process import SUPERVISOR_ENV
from handrail.processes.exit_record import RECORD_ENV, SAVING, STARTING, describe_cause, is_users
from handrail.run_folder import Run

_KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FAULT_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+)')


class ProcessFailed(Error):
    """A process of the run can't go on; the message says why it ended."""


@dataclass(frozen=True)
class Cause:
    """Why a process ended."""

    text: str  # exception type, message and place; or signal, or exit code
    key: str | None  # the same for ends of one cause; None where it was ended from outside
    worked: bool  # it had begun its work, so that this was no end at its start
    finished: bool  # in an orderly way, with exit code 0


class Child:
    """A process of the run, from one start to its end."""

    def __init__(
        self,
        run: Run,
        role: str,
        module: str,
        options: list[str],
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            run: Its run; it logs there.
            role: What it is called.
            module: Package whose main it runs.
            options: Of its command line, besides the run folder.
            environment: What it has besides this process's environment.
        """
        self.role = role
        self.started = time.monotonic()
        self._log = run.log(role)
        self._record = self._log.with_suffix(".exit.json")
        for path in (self._record, self._fault):
            path.unlink(missing_ok=True)
        self._oom_kills = oom_kills()
        command = [sys.executable, "-m", "handrail.processes.entry", module]
        with open(self._log, "ab") as log:
            self._log_begin = log.tell()
            self.process = subprocess.Popen(
                [*command, "--run", str(run.folder), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **(environment or {}),
                    SUPERVISOR_ENV: str(os.getpid()),
                    RECORD_ENV: str(self._record.absolute()),
                },
                start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to pass on
            )

    @property
    def state(self) -> str:
        """What it says it is doing: `STARTING`, `RUNNING` or `SAVING` of `exit_record`."""
        return str(self._read().get("state", STARTING))

    @property
    def saving(self) -> bool:
        """Whether it says that it is saving data."""
        return self.state == SAVING

    def cause(self) -> Cause:
        """Return why it ended; it must have."""
        code, record = self.process.returncode, self._read()
        worked = bool(record.get("worked"))
        if "error" in record:
            key = f"{record['error']} {record.get('where')}"
            return Cause(describe_cause(record), key, worked, False)
        if code < 0:
            return self._killed(signal.Signals(-code), worked)
        if code == 0 and record.get("code") == 0:
            return Cause("it ended, as it was asked to", None, worked, True)
        if code == record.get("code"):
            return Cause(f"exit code {code}{self._last_line()}", None, worked, False)
        text = f"exit code {code}, in the middle of its work"
        if "thread" in record:
            text = f"{text}, after {describe_cause(record['thread'])} in a thread"
        return Cause(f"{text}{self._last_line()}", f"exit code {code}", worked, False)

    def failure(self, what: str, cause: Cause) -> ProcessFailed:
        """Return the error of a process that can't go on."""
        return ProcessFailed(f"{self.role} {what}: {cause.text} (log: {self._log})")

    def _killed(self, sig: signal.Signals, worked: bool) -> Cause:
        if sig == signal.SIGKILL and oom_kills() > self._oom_kills:
            return Cause(f"{sig.name}, out of memory?", "out of memory", worked, False)
        if sig in _KILLED_FROM_OUTSIDE:
            return Cause(sig.name, None, worked, False)
        where = self._fault_place()
        return Cause(f"{sig.name}{where}", f"{sig.name}{where}", worked, False)

    @property
    def _fault(self) -> Path:
        return self._record.with_name(f"{self._record.name}.fault")

    def _fault_place(self) -> str:
        """Return where faulthandler saw a crash: the innermost frame of the user's own code."""
        frames = []
        with contextlib.suppress(OSError):
            text = self._fault.read_text(encoding="utf-8", errors="replace")
            _, _, current = text.partition("Current thread")
            crashed = (current or text).split("\n\n")[0]
            frames = [match.group("file", "line") for match in _FAULT_FRAME.finditer(crashed)]
        place = next((frame for frame in frames if is_users(frame[0])), None)
        place = place or (frames[0] if frames else None)
        return f" at {place[0]}:{place[1]}" if place else ""

    def _last_line(self) -> str:
        """Return the last line that this start logged, as the end of a sentence."""
        lines = []
        with contextlib.suppress(OSError), open(self._log, "rb") as log:
            log.seek(self._log_begin)
            text = log.read().decode("utf-8", errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"; it said last: {lines[-1]}" if lines else "; it said nothing"

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            record = json.loads(self._record.read_text(encoding="utf-8"))
            if isinstance(record, dict) and record.get("pid") == self.process.pid:
                return record
        return {}


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes the kernel has killed for want of memory, as far as it says so.

    Args:
        root: Where /proc and /sys are.
    """
    counts = [0]
    for name in ("sys/fs/cgroup/memory.events", "sys/fs/cgroup/memory/memory.oom_control",
                 "proc/vmstat"):  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            for line in (root / name).read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    counts.append(int(line.split()[1]))
    return sum(counts)
