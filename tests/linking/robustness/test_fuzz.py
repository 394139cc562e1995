"""Every decoder takes 10 000 damaged inputs in CI, and the fuzzer finds what is put in for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import TARGETS, Fuzz

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
INPUTS = 10_000
DEFECTS = tomllib.loads(
    (ROOT / "tests" / "stress" / "mutants" / "fuzz_defects.toml").read_text("utf-8")
)["defect"]


@pytest.mark.slow
def test_nothing_is_found(tmp_path: Path) -> None:
    told = Fuzz(tmp_path, seed=0, inputs=INPUTS).run()
    assert {name: tally["found"] for name, tally in told.items() if tally["found"]} == {}
    assert sum(tally["inputs"] for tally in told.values()) >= INPUTS
    for name, tally in told.items():
        assert tally["header_share"] > 0.3, f"{name}: most inputs end at the header"


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = Fuzz(tmp_path / "whole", 1, 1500, ["label sealed", "zap"]).run()
    half = Fuzz(tmp_path / "half", 1, 1500, ["label sealed", "zap"])
    batches = 0

    def cut(*_: object) -> list[tuple[bytes, ...]]:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise KeyboardInterrupt
        return Fuzz._inputs(half, *_)  # type: ignore[arg-type]

    half._inputs = cut  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        half.run()
    told = Fuzz(tmp_path / "half", 1, 1500, ["label sealed", "zap"]).run()
    for name, tally in told.items():
        for key in ("inputs", "passed_header", "accepted", "refused"):
            assert tally[key] == whole[name][key], name


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect["what"] for defect in DEFECTS])
def test_a_defect_to_plant_quotes_a_place_that_is_there(defect: dict[str, str]) -> None:
    source = (ROOT / defect["file"]).read_text(encoding="utf-8")
    assert source.count(defect["old"]) == 1, "bring fuzz_defects.toml up to date"


@pytest.mark.long
@pytest.mark.parametrize("defect", DEFECTS, ids=[defect["what"] for defect in DEFECTS])
def test_a_planted_defect_is_found(defect: dict[str, str], tmp_path: Path) -> None:
    source = (ROOT / defect["file"]).read_text(encoding="utf-8")
    left_out = shutil.ignore_patterns("__pycache__")
    for folder in ("handrail", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    broken = source.replace(defect["old"], defect["new"])
    (tmp_path / defect["file"]).write_text(broken, encoding="utf-8")
    budget = INPUTS / sum(target.share for target in TARGETS.values())
    inputs = int(budget * sum(TARGETS[name].share for name in defect["targets"]))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tests/stress/fuzz" / "fuzz.py"), "--inputs", str(inputs),
         "--out", str(tmp_path / "out"), "--only", *defect["targets"]],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    found = [f for tally in told["targets"].values() for f in tally["found"]]
    assert defect["kind"] in {f["kind"] for f in found}, found
    assert all(Path(f["file"]).is_file() for f in found)
