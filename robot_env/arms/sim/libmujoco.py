"""libmujoco's own functions, callable from compiled code.

The ticks of a policy period run inside one compiled function; a call back into Python per tick
would cost three times the physics. The functions take the addresses of model and data as integers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import mujoco
from numba import types

from handrail.errors import DeviceLost


def _library() -> Path:
    folder = Path(mujoco.__file__).parent
    found = [
        path
        for pattern in ("libmujoco*.so*", "libmujoco*.dylib", "mujoco.dll")
        for path in folder.glob(pattern)
    ]
    if not found:
        raise DeviceLost(f"no libmujoco beside {folder}; `pip install --force-reinstall mujoco`")
    return found[0]


def _function(name: str) -> Callable[[int, int], None]:
    address = ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value
    llvm.add_symbol(name, address)
    return types.ExternalFunction(name, types.void(types.intp, types.intp))  # type: ignore


_LIBRARY = ctypes.CDLL(str(_library()))
mj_step1 = _function("mj_step1")  # (model, data): addresses; up to velocities, control is set after
mj_step2 = _function("mj_step2")  # forces and integration
