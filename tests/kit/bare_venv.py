"""A virtual environment that holds Handrail with one extra and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32",
         "--learner.utd", "1", "--run.steps", "300", "--run.eval-episodes", "1")  # fmt: skip


class BareVenv:
    """An installed copy of the tree, run as a user's shell would run it."""

    def __init__(self, folder: Path, *requirements: str, constraints: Path) -> None:
        """Make it.

        Args:
            folder: A new one; also where commands are run, and the home of their caches.
            requirements: What pip installs, such as `.[learn]` of the tree.
            constraints: File of versions that pip keeps to.
        """
        self.folder = folder
        self._bin = folder / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                 "--constraint", str(constraints), *requirements, timeout=900)  # fmt: skip

    def run(self, name: str, *arguments: str, timeout: float = 240) -> str:
        """Return what a command says; a bad end raises an AssertionError that shows it."""
        done = self.attempt(name, *arguments, timeout=timeout)
        assert done.returncode == 0, f"{name} {arguments}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def attempt(
        self, name: str, *arguments: str, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Return a finished command; both of its outputs are in `stdout`."""
        return subprocess.run(
            [self._bin / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", timeout=timeout, cwd=self.folder, env=self._environment(),
        )  # fmt: skip

    def start(self, name: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Return a command that goes on and writes what it says to a file."""
        with open(log, "wb") as out:
            return subprocess.Popen(
                [self._bin / name, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                cwd=self.folder, env=self._environment(),
            )  # fmt: skip

    def has(self, module: str) -> bool:
        """Return whether a module can be imported."""
        return self.attempt("python", "-c", f"import {module}").returncode == 0

    def _environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH", "NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "MPLCONFIGDIR"}
        kept = {key: value for key, value in os.environ.items() if key not in ours}
        return kept | {"HANDRAIL_CACHE": str(self.folder / "caches")}
