"""`kernel`: numba's compiler with the settings that every control function shares.

numba's cache on disk looks only at the file of the cached function, not at the files of the
functions it calls: after an update a robot could run yesterday's limits inside today's chain. Here
the cache folder's name holds a digest of every control source, so that an old binary can't be met.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.dispatcher import Dispatcher

from controllers.sealed_cache import SealedCache

F = TypeVar("F", bound=Callable[..., Any])
_ROOT = Path(__file__).resolve().parent.parent
CRITIC = "handrail/risk_critic/format.py"  # its offsets are compiled into the chain
COMPILED = ("controllers", CRITIC, "robot_env/recorder", "robot_env/arms")  # all compiled code


def chain_digest() -> str:
    """Return 16 hex digits of the control chain's source: what a recording was made by."""
    return _digest("controllers", CRITIC).hexdigest()[:16]


def cache_folder() -> Path:
    """Return the folder for compiled control code, one per version of the code.

    Below `NUMBA_CACHE_DIR`, else `HANDRAIL_CACHE`, else the user's cache folder.
    """
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("HANDRAIL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    text = _digest(*COMPILED)
    text.update(numba.__version__.encode())
    return Path(given or Path(home) / "handrail" / "numba") / f"control-{text.hexdigest()[:12]}"


def compiled_sources(*places: str) -> list[Path]:
    """Return the source files at or below these places, sorted by path.

    Args:
        places: Files and folders, relative to the folder that holds `controllers/`.
    """
    found = ((_ROOT / place).rglob("*.py") if (_ROOT / place).is_dir() else [_ROOT / place]
             for place in places)  # fmt: skip
    return sorted(path for paths in found for path in paths)


def _digest(*places: str) -> Any:
    text = hashlib.sha256()
    for path in compiled_sources(*places):
        text.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return text


numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]


def kernel(function: F) -> F:
    """Compile a function of floats and float64 arrays; the plain one stays at `.py_func`.

    Divisions by zero give inf as in numpy, since nothing may raise on the control path, and the
    interpreter's lock is released while the function runs.
    """
    compiled = numba.njit(error_model="numpy", nogil=True)(function)
    if isinstance(compiled, Dispatcher):  # not where NUMBA_DISABLE_JIT is set
        compiled._cache = SealedCache(function)  # type: ignore[attr-defined]
    return compiled  # type: ignore[return-value]
