"""Ask a fresh interpreter, or the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_python(program: str, timeout: float) -> tuple[bool, str]:
    """Run a program in a fresh interpreter; return whether it worked, and its last line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout:.0f} s"
    except OSError as error:
        return False, str(error)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}"


def read_kernel_file(path: str) -> str:
    """Return a file of the kernel's, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
