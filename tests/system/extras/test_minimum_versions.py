"""The oldest versions that pyproject.toml lets in are enough to train, on an arm and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
from bare_venv import ROOT, SMALL, BareVenv

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
EXTRAS = ("learn", "sim", "recorder")


def minima() -> dict[str, str]:
    """Return the lowest version of each package that running needs, by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    found = {}
    for line in lines:
        if "python_version" not in line:
            parts = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line)
            assert parts is not None, f"{line}: no minimum"
            found[parts[1]] = parts[2]
    return found


@pytest.fixture(scope="module")
def oldest(tmp_path_factory) -> BareVenv:
    folder: Path = tmp_path_factory.mktemp("oldest")
    constraints = folder / "minima.txt"
    text = "".join(f"{name}=={version}\n" for name, version in minima().items())
    constraints.write_text(text, encoding="utf-8")
    return BareVenv(folder, f"{ROOT}[{','.join(EXTRAS)}]", constraints=constraints)


def test_every_dependency_has_a_minimum():
    assert {"numpy", "numba", "jax", "mujoco", "imageio", "mcap"} <= set(minima())


def test_an_arm_and_a_gymnasium_task_train_with_the_oldest_versions(oldest: BareVenv):
    said = oldest.run("python", "-m", "pip", "list", "--format", "freeze")
    installed = dict(
        line.lower().replace("_", "-").split("==") for line in said.splitlines() if "==" in line
    )
    for name, version in minima().items():
        assert installed[name.lower()].startswith(version), name
    oldest.run("handrail", "train", "pendulum", "--out", "gym", *SMALL)
    oldest.run(
        "handrail", "train", "reach", "--out", "arm", "--run.demos", "3", *SMALL, timeout=900
    )
    for run in ("gym", "arm"):
        oldest.run("handrail", "data", "verify", run)
        oldest.run("handrail", "report", run)
    assert (oldest.folder / "arm" / "policy.mp4").stat().st_size > 0
    oldest.run("handrail", "doctor", "--role", "learner")
