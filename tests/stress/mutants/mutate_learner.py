"""Put known mistakes back into the learner, one at a time, and see that its test fails.

The mistakes stand in `learner_defects.toml`: each replaces one exact text in a copy of the tree and
names the test that must fail then. A text that isn't there exactly once is an error. At the end,
every named test must pass in an unbroken copy.

    python tests/stress/mutants/mutate_learner.py --results defects.jsonl

Results are kept line by line: an interrupted run goes on where it stopped, and what changed since
is run again. The last line printed is JSON. Exit code 1 if a mistake survives, or a text doesn't
match.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
DEFECTS = Path(__file__).with_name("learner_defects.toml")
BUDGET = 900.0  # [s], a test that takes longer has not noticed: it may only be slow
# what is made anew, and controllers: mutate_chain.py breaks them; compiled code is cached by path
LEFT_OUT = (".git", ".venv*", "__pycache__", "runs", ".*_cache", ".hypothesis", "controllers")


class Defect(NamedTuple):
    """A mistake and the test that holds against it."""

    line: str  # of the table in docs/learner.md
    what: str
    file: str
    old: str
    new: str
    test: str

    @property
    def name(self) -> str:
        """What it is called in results; another text is another defect."""
        short = hashlib.sha256("\0".join(self).encode()).hexdigest()[:6]
        return f"{self.line}:{Path(self.file).stem}:{short}"

    def broken(self, source: str) -> str:
        """Return the source with the mistake in it.

        Raises:
            ValueError: The text to replace is not there once, or what comes out is no Python.
        """
        found = source.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.name} ({self.what}): its text is {found} times in {self.file}, not once; "
                f"bring {DEFECTS.name} up to date"
            )
        broken = source.replace(self.old, self.new)
        try:
            ast.parse(broken)
        except SyntaxError as error:
            raise ValueError(f"{self.name} ({self.what}): no Python any more: {error}") from None
        return broken


def defects() -> list[Defect]:
    """Return all of them, in the order of the file."""
    table = tomllib.loads(DEFECTS.read_text(encoding="utf-8"))["defect"]
    return [Defect(**entry) for entry in table]


def mismatches(all_defects: list[Defect]) -> Iterator[str]:
    """Yield what is wrong with each defect whose text no longer fits the tree."""
    for defect in all_defects:
        try:
            defect.broken((ROOT / defect.file).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            yield str(error)


class Copies:
    """Copies of the tree, one per worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = threading.local()
        self._count = 0
        self._lock = threading.Lock()

    def mine(self) -> Path:
        """Return this thread's copy, made at the first call."""
        if not hasattr(self._mine, "root"):
            with self._lock:
                self._count += 1
                root = self._folder / str(self._count)
            shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
            self._mine.root = root
        return self._mine.root


def run_tests(root: Path, tests: list[str]) -> tuple[str, list[str]]:
    """Return "passed", "failed" or "error", and the lines that say so."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a file that is broken and mended within a second
        "HYPOTHESIS_STORAGE_DIRECTORY": str(root / ".hypothesis"),
    }
    shutil.rmtree(root / ".hypothesis", ignore_errors=True)
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(root)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(str(root / test) for test in tests)],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUDGET + 60.0 * len(tests),
        )
    except subprocess.TimeoutExpired:
        return "error", [f"longer than {BUDGET + 60.0 * len(tests):.0f} s"]
    if done.returncode == 0:
        return "passed", []
    said = [line[:160] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if done.returncode == 1 and said:
        return "failed", said
    return "error", [(done.stdout + done.stderr).strip()[-400:]]


def judge(copies: Copies, defect: Defect) -> dict[str, Any]:
    """Return whether a defect's test fails with it."""
    begun = time.monotonic()
    root = copies.mine()
    path = root / defect.file
    source = path.read_text(encoding="utf-8")
    path.write_text(defect.broken(source), encoding="utf-8")
    try:
        outcome, said = run_tests(root, [defect.test])
    finally:
        path.write_text(source, encoding="utf-8")
    row = {"defect": defect.name, "what": defect.what, "outcome": outcome, "said": said[:1]}
    return row | {"seconds": round(time.monotonic() - begun, 1)}


def control(copies: Copies, tests: list[str]) -> dict[str, Any]:
    """Return whether the named tests pass where nothing is broken."""
    begun = time.monotonic()
    outcome, said = run_tests(copies.mine(), tests)
    row = {"defect": f"none of {len(tests)} tests", "outcome": outcome, "said": said}
    return row | {"seconds": round(time.monotonic() - begun, 1)}


def digest(chosen: list[Defect]) -> str:
    """Return a digest of the code and the tests that results are good for."""
    folders = ("learner", "actor", "robot_env", "handrail", "controllers")
    files = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
    files |= {ROOT / defect.test.split("::")[0] for defect in chosen}
    files |= {ROOT / "tests" / "conftest.py", *(ROOT / "tests" / "kit").glob("made_*.py")}
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12]


def main() -> int:
    """Judge the missing defects; return 1 if one survives or doesn't fit."""
    parser = argparse.ArgumentParser(description="Put mistakes back and see that tests notice.")
    parser.add_argument("--results", type=Path, default=Path("defects.jsonl"))
    parser.add_argument("--list", action="store_true", help="only say what they are")
    parser.add_argument("--only", type=int, metavar="N", help="only the N-th of the list, from 1")
    parser.add_argument("--jobs", type=int, default=1, help="tests at once")
    options = parser.parse_args()
    chosen = defects()
    if options.only is not None:
        if not 1 <= options.only <= len(chosen):
            parser.error(f"--only must be within 1 .. {len(chosen)}, got {options.only}")
        chosen = [chosen[options.only - 1]]
    if options.list:
        for number, defect in enumerate(chosen, 1):
            print(f"{number:3} {defect.line:>3} {defect.what}: {defect.test}")
        return 0
    wrong = list(mismatches(chosen))
    if wrong:
        print(*wrong, sep="\n")
        print(json.dumps({"defects": len(chosen), "mismatched": len(wrong)}))
        return 1

    state = digest(defects())
    rows: dict[str, dict[str, Any]] = {}
    if options.results.exists():
        kept = map(json.loads, options.results.read_text().splitlines())
        rows = {row["defect"]: row for row in kept if row["state"] == state}
    tests = list(dict.fromkeys(defect.test for defect in chosen))
    unbroken = f"none of {len(tests)} tests"
    with tempfile.TemporaryDirectory(prefix="handrail-defects-") as scratch:
        copies = Copies(Path(scratch))

        def keep(row: dict[str, Any]) -> None:
            rows[row["defect"]] = row
            with options.results.open("a") as file:
                file.write(json.dumps({**row, "state": state}) + "\n")
            print(row["outcome"], row["defect"], *row["said"], flush=True)

        with ThreadPoolExecutor(options.jobs) as pool:
            missing = [defect for defect in chosen if defect.name not in rows]
            for row in pool.map(lambda defect: judge(copies, defect), missing):
                keep(row)
            if unbroken not in rows:
                keep(pool.submit(control, copies, tests).result())

    survivors = {
        row["defect"]: f"{row['what']}: {row['outcome']} {' '.join(row['said'])}".strip()
        for row in (rows[defect.name] for defect in chosen)
        if row["outcome"] != "failed"
    }
    summary = {
        "defects": len(chosen),
        "caught": len(chosen) - len(survivors),
        "survivors": survivors,
        "tests": len(tests),
        "unbroken": rows[unbroken]["outcome"],
    }
    print(json.dumps(summary))
    return 1 if survivors or summary["unbroken"] != "passed" else 0


if __name__ == "__main__":
    sys.exit(main())
