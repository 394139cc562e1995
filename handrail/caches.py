"""One writable folder for compile caches, chosen before numba and jax are imported."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from handrail.cache_check import discard_damaged_jax


def cache_folder(environment: MutableMapping[str, str]) -> Path:
    """Return the folder for caches; it exists and is writable.

    That is HANDRAIL_CACHE, else `handrail` below XDG_CACHE_HOME or ~/.cache; where that can't be
    written, a folder of this user below the system's temporary one.

    Args:
        environment: Environment variables.
    """
    wishes = [Path(environment["HANDRAIL_CACHE"])] if environment.get("HANDRAIL_CACHE") else []
    if environment.get("XDG_CACHE_HOME"):
        wishes.append(Path(environment["XDG_CACHE_HOME"]) / "handrail")
    elif environment.get("HOME"):
        wishes.append(Path(environment["HOME"]) / ".cache" / "handrail")
    for wish in wishes:
        if _writable(wish):
            return wish
    shared = Path(tempfile.gettempdir()) / f"handrail-cache-{os.getuid()}"
    if _writable(shared) and shared.stat().st_uid == os.getuid():
        return shared
    return Path(tempfile.mkdtemp(prefix="handrail-cache-"))


def use_caches(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Point numba, jax and matplotlib at one cache folder, and return it.

    Call it before any of them is imported; what the user has set already stays. jax's compiled
    code is for one kind of processor, so machines that share a home don't share that part. Of it,
    what a power cut damaged is deleted; numba's is looked at where it is loaded.

    Args:
        environment: Environment variables, changed in place; child processes inherit them.
    """
    folder = cache_folder(environment)
    environment.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    environment.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / f"jax-{_processor()}"))
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    discard_damaged_jax(Path(environment["JAX_COMPILATION_CACHE_DIR"]))
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(kind).encode()).hexdigest()[:8]
