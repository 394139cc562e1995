"""What is installed, from where, and what is missing for which role."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path

from handrail import __version__
from handrail.checks.result import FAIL, OK, ROLES, WARN, CheckResult

PACKAGES = ("handrail", "actor", "learner", "robot_env", "controllers", "rewards")
_MODULES = {  # extra -> modules it brings
    "": (
        "numpy",
        "scipy",
        "numba",
        "zmq",
        "msgspec",
        "apsw",
        "gymnasium",
        "tyro",
        "rich",
        "tomli_w",
    ),
    "learn": ("jax", "optax", "safetensors", "tensorboardX", "matplotlib"),
    "sim": ("mujoco", "imageio", "imageio_ffmpeg"),
    "recorder": ("mcap", "zstandard"),
    "dev": ("pytest", "pytest_timeout", "hypothesis", "psutil", "ruff", "pyright", "pre_commit"),
}
_NEEDED_BY = {
    "": ROLES,
    "learn": ("actor", "learner", "sim"),
    "sim": ("sim",),
    "recorder": ("host",),
    "dev": ("dev",),
}
_WORKS_WITHOUT = {"recorder": "recordings are kept, but can't be saved as files"}
_DISTRIBUTIONS = {
    "zmq": "pyzmq",
    "tomli_w": "tomli-w",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "pytest_timeout": "pytest-timeout",
    "pre_commit": "pre-commit",
}


def packages() -> list[CheckResult]:
    """Say where each of the six packages would be imported from; they must share one folder."""
    places = {name: _place(name) for name in PACKAGES}
    missing = [name for name, place in places.items() if place is None]
    folders = {place for place in places.values() if place is not None}
    found = [
        CheckResult("install", "python", OK, f"{platform.python_version()} at {sys.executable}"),
        CheckResult("install", "handrail", OK, f"{__version__}, from {places['handrail']}"),
    ]
    if missing:
        text = f"not found: {', '.join(missing)}"
        found.append(CheckResult("install", "packages", FAIL, text, pip_line("")))
    elif len(folders) > 1:
        text = "; ".join(f"{name} from {place}" for name, place in places.items())
        remedy = "take the other folders off PYTHONPATH and sys.path, or use a fresh environment"
        found.append(
            CheckResult("install", "packages", FAIL, f"from several folders: {text}", remedy)
        )
    else:
        found.append(CheckResult("install", "packages", OK, f"{', '.join(PACKAGES)}: one folder"))
    return found


def dependencies() -> list[CheckResult]:
    """Say which packages of others are installed, by extra."""
    found = []
    for extra, modules in _MODULES.items():
        versions = {name: version_of(name) for name in modules}
        missing = [name for name, version in versions.items() if version is None]
        text = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        title, roles = extra or "core", _NEEDED_BY[extra]
        if missing:
            loss = _WORKS_WITHOUT.get(extra)
            text = f"missing: {', '.join(missing)}" + (f"; {loss}" if loss else "")
            state = WARN if loss else FAIL
            found.append(CheckResult("install", title, state, text, pip_line(extra), roles))
        else:
            found.append(CheckResult("install", title, OK, text, "", roles))
    return found


def version_of(module: str) -> str | None:
    """Return the version of an installed module, None where it is missing."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
        return importlib.metadata.version(_DISTRIBUTIONS.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
    except (ImportError, ValueError):
        return None


def pip_line(extra: str) -> str:
    """Return the line that installs Handrail with an extra, "" for none."""
    root = Path(__file__).resolve().parent.parent
    name = f"[{extra}]" if extra else ""
    if (root / "pyproject.toml").is_file():
        return f"{sys.executable} -m pip install -e '{root}{name}'"
    return f"{sys.executable} -m pip install 'handrail{name}'"


def _place(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return str(Path(next(iter(spec.submodule_search_locations))).resolve().parent)
