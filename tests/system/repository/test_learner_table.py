"""The table of mistakes in docs/learner.md holds what it says: tests that exist, texts that fit."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import mutate_learner
import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "learner.md"
LINES = [str(i) for i in range(1, 39)] + [f"P{i}" for i in range(1, 13)]
TITLE = "## What goes wrong elsewhere, and what keeps it out here\n"
ROW = re.compile(r"^\| (P?\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def table() -> dict[str, str]:
    """Return what keeps each mistake out, by its line."""
    section = PAGE.read_text(encoding="utf-8").split(TITLE)[1]
    found = [(line, kept) for line, _, kept in ROW.findall(section)]
    assert [line for line, _ in found] == LINES
    return dict(found)


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse(next((ROOT / "tests").rglob(file)).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_names_a_test_or_states_a_property():
    for line, kept in table().items():
        assert TEST.search(kept) or "**Property**" in kept or "**Not there**" in kept, line


def test_every_test_that_the_table_names_exists():
    for line, kept in table().items():
        for file, name in TEST.findall(kept):
            assert name in functions_of(file), f"line {line}: no {name} in tests/{file}"


def test_every_defect_still_fits_the_code_exactly_once():
    assert list(mutate_learner.mismatches(mutate_learner.defects())) == []


def test_every_defect_is_caught_by_a_test_of_its_line():
    kept = table()
    for defect in mutate_learner.defects():
        file, name = defect.test.rpartition("/")[2].split("::")
        assert (file, name) in TEST.findall(kept[defect.line]), defect.name


def test_the_method_that_is_added_on_the_page_is_the_one_in_the_code():
    block = PAGE.read_text(encoding="utf-8").split("```diff\n")[1].split("```")[0]
    changed = [line for line in block.splitlines() if line[0] in "+-"]
    assert len(changed) < 60
    code = {
        line.strip()
        for path in (ROOT / "learner").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    for line in changed:
        assert line[0] == "-" or line[1:].strip() in code, f"the page adds {line[1:].strip()!r}"


def test_a_text_that_does_not_fit_is_an_error_and_no_pass():
    defect = mutate_learner.defects()[0]
    source = (ROOT / defect.file).read_text(encoding="utf-8")
    assert defect.broken(source) != source
    twice = source + source
    for unfit in (source.replace(defect.old, ""), twice):
        with pytest.raises(ValueError, match="not once"):
            defect.broken(unfit)
