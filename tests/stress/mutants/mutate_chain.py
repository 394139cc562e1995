"""Break the control chain on purpose, one small change at a time, and see that a test notices.

Mutants are made by rule from the source of every stage: a function skipped, a sign turned, a
comparison turned, a factor doubled, a bound taken from the wrong side, a tick too many, the torque
that was sent booked, two stages swapped. Each runs against the tests of properties and behaviour,
those about its stage first, until one fails; the comparison with the numpy chain comes last, replay
and golden files are not among them. What survives is printed; why it may is in `REASONS`.

    python tests/stress/mutants/mutate_chain.py --per-file 6 --results mutants.jsonl

Results are kept line by line: an interrupted run goes on where it stopped. Exit code 1 if a mutant
survives without a reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
STAGES = (
    "state_check", "energy_tank", "command", "authority", "watchdog", "interpolate",
    "target_error_clamp", "workspace", "speed", "target_limits", "force_bias", "safety_reflex",
    "energy_gate", "impedance", "joint_limit_avoidance", "passivity_observer", "torque_limits",
    "chain",
)  # fmt: skip
TESTS = (
    "control/stages/test_requests.py",
    "control/stages/test_authority.py",
    "control/stages/test_target_limits.py",
    "control/stages/test_gate.py",
    "control/stages/test_bias.py",
    "control/stages/test_reflex.py",
    "control/stages/test_stages.py",
    "control/stages/test_limits.py",
    "control/stages/test_chain.py",
    "control/stages/test_joint_limits.py",
    "control/stages/test_impedance.py",
    "control/properties/test_properties_energy.py",
    "control/properties/test_properties_losses.py",
    "control/stages/test_watchdog.py",
    "control/properties/test_properties_torque.py",
    "control/properties/test_properties_requests.py",
    "host/arms/test_mujoco_robot.py",
    "control/stages/test_numpy_chain.py",
)
BUDGET = 1500.0  # [s], tests that take longer have noticed

_APART = "the two touch nothing in common"
REASONS: dict[str, str] = {
    "energy_gate:104:order:e1a7a4": _APART,
    "impedance:217:order:6ce46d": _APART,
    "authority:30:order:6ee83f": "of the two at most one applies",
    "chain:186:order:94dc74": _APART,
    "chain:188:order:13b079": "a tick's leak (0.1 mJ) of what a person may be lent at a take-over",
    "chain:230:order:222466": _APART,
    "chain:231:order:6bd960": "a tick of smoothing of the force at rest, before any request",
}


class Mutant(NamedTuple):
    """One change of one stage."""

    stage: str
    rule: str
    line: int
    source: str  # of the whole file

    @property
    def name(self) -> str:
        """What it is called in results."""
        short = hashlib.sha256(self.source.encode()).hexdigest()[:6]
        return f"{self.stage}:{self.line}:{self.rule}:{short}"


def mutants(stage: str) -> Iterator[Mutant]:
    """Yield every mutant of a stage's file, in the order of the source."""
    path = ROOT / "controllers" / f"{stage}.py"
    tree = _in_rows(ast.parse(path.read_text()))
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        if not any(isinstance(d, ast.Name) and d.id == "kernel" for d in node.decorator_list):
            continue
        for at, inner in enumerate(ast.walk(node)):
            for rule, change in RULES.items():
                if not change(copy.deepcopy(inner)):
                    continue
                mutated = copy.deepcopy(tree)
                twin = next(
                    f
                    for f in ast.walk(mutated)
                    if isinstance(f, ast.FunctionDef) and f.name == node.name
                )
                change(list(ast.walk(twin))[at])
                line = getattr(inner, "lineno", node.lineno)
                yield Mutant(stage, rule, line, ast.unparse(ast.fix_missing_locations(mutated)))


def skip(node: ast.AST) -> bool:
    """Skip a call made for what it does, or an assignment into an array."""
    if isinstance(node, (ast.If, ast.For)):
        for at, inner in enumerate(node.body):
            if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Subscript):
                node.body[at] = ast.Pass()
                return True
    if isinstance(node, ast.FunctionDef):
        for at, inner in enumerate(node.body):
            called = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call)
            stored = isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Subscript)
            if called or stored:
                node.body[at] = ast.Pass()
                return True
    return False


def sign(node: ast.AST) -> bool:
    """Turn plus into minus or back."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return _about_numbers(node)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub)):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return True
    return False


def _about_numbers(node: ast.BinOp) -> bool:
    # an index into a packed array is no arithmetic of the chain
    for part in (node.left, node.right):
        base = part.left if isinstance(part, ast.BinOp) else part
        owner = base.value if isinstance(base, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id in ("PARAM", "STATE", "MEAS", "CMD", "STAGE"):
            return False
    return True


def comparison(node: ast.AST) -> bool:
    """Turn a comparison round."""
    turned: dict[type, Callable[[], ast.cmpop]] = {
        ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    }  # fmt: skip
    if isinstance(node, ast.Compare) and type(node.ops[0]) in turned:
        node.ops[0] = turned[type(node.ops[0])]()
        return True
    return False


def factor(node: ast.AST) -> bool:
    """Double a product."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        node.left = ast.BinOp(ast.Constant(2.0), ast.Mult(), node.left)
        return _about_numbers(node)
    return False


def side(node: ast.AST) -> bool:
    """Take the larger where the smaller was meant, or the other way round."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        turned = {"min": "max", "max": "min"}
        node.func.id, before = turned.get(node.func.id, node.func.id), node.func.id
        return node.func.id != before
    return False


def tick(node: ast.AST) -> bool:
    """Count a tick too many, or book the torque that was sent instead of the one that acted."""
    if isinstance(node, (ast.AugAssign, ast.BinOp)):
        field = "value" if isinstance(node, ast.AugAssign) else "right"
        value = getattr(node, field)
        if ast.unparse(value) == "measurement[MEAS.elapsed]":
            setattr(node, field, ast.BinOp(value, ast.Add(), ast.Constant(1.0)))
            return True
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "MEAS.applied_torque":
        node.attr = "commanded_torque"
        return True
    return False


def order(node: ast.AST) -> bool:
    """Swap two steps in a row that call stages, unless the second needs a name of the first."""
    row: list[ast.stmt] = getattr(node, "row", [])  # see `_in_rows`
    if node not in row[:-1]:
        return False
    at = row.index(node)  # type: ignore[arg-type]
    first, second = row[at], row[at + 1]
    if not (_calls(first) and _calls(second)) or _names(first, ast.Store) & _names(second):
        return False
    row[at], row[at + 1] = second, first
    return True


def _in_rows(tree: ast.Module) -> ast.Module:
    # every statement knows its siblings
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.If, ast.For)):
            for statement in node.body:
                statement.row = node.body  # type: ignore[attr-defined]
    return tree


def _calls(node: ast.AST) -> bool:
    # of our own functions, whose arguments are arrays that they may write into
    names = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    return any(n.isidentifier() for n in names - {"min", "max", "abs", "int", "range", "len"})


def _names(node: ast.AST, context: type = ast.expr_context) -> set[str]:
    walk = ast.walk(node)
    return {n.id for n in walk if isinstance(n, ast.Name) and isinstance(n.ctx, context)}


RULES: dict[str, Callable[[ast.AST], bool]] = {
    "skip": skip, "sign": sign, "comparison": comparison, "factor": factor, "side": side,
    "tick": tick, "order": order,
}  # fmt: skip


def sample(stage: str, count: int) -> list[Mutant]:
    """Return a stage's mutants, spread evenly over rules and source; of the chain every order."""
    unique = {m.source: m for m in mutants(stage)}
    groups = [[m for m in unique.values() if m.rule == rule] for rule in RULES]
    picked = [m for m in unique.values() if (stage, m.rule) == ("chain", "order")]
    count += len(picked)
    share = 0
    while len(picked) < min(count, len(unique)):
        for group in groups:
            left = [m for m in group if m not in picked]
            if left and len(picked) < count:
                picked.append(left[(share * 7 + len(left) // 2) % len(left)])
        share += 1
    return sorted(picked, key=lambda m: (m.line, m.rule))


def nearest_first(stage: str) -> list[str]:
    """Return the tests' files: those about a stage before the others."""
    return sorted(
        TESTS, key=lambda test: f"controllers.{stage} " not in (ROOT / "tests" / test).read_text()
    )


def judge(mutant: Mutant) -> dict[str, Any]:
    """Return which test notices a mutant, if one does."""
    begun = time.monotonic()
    row: dict[str, Any] = {"mutant": mutant.name, "killed_by": None}
    with tempfile.TemporaryDirectory(prefix="handrail-mutant-") as scratch:
        root = Path(scratch)
        for entry in ROOT.iterdir():
            if entry.name != "controllers":
                (root / entry.name).symlink_to(entry)
        (root / "controllers").mkdir()
        for file in (ROOT / "controllers").glob("*.py"):
            text = mutant.source if file.stem == mutant.stage else file.read_text()
            (root / "controllers" / file.name).write_text(text)
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "NUMBA_CACHE_DIR": str(root / "cache"),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(root / "examples"),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header"]
        command += ["-p", "no:cacheprovider", "--rootdir", str(root), "-m", "not slow and not long"]
        command += [str(root / "tests" / test) for test in nearest_first(mutant.stage)]
        try:
            done = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True, timeout=BUDGET
            )
        except subprocess.TimeoutExpired:
            row["killed_by"] = f"longer than {BUDGET:.0f} s"
        else:
            if done.returncode != 0:
                failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
                row["killed_by"] = failed[0].split(" - ")[0][7:] if failed else "an error"
    row["seconds"] = round(time.monotonic() - begun, 1)
    return row


def main() -> int:
    """Judge the missing mutants; return 1 if one survives without a reason."""
    parser = argparse.ArgumentParser(description="Break the chain and see that a test notices.")
    parser.add_argument("--per-file", type=int, default=6, help="mutants of each stage")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--list", action="store_true", help="only say what they are")
    options = parser.parse_args()
    chosen = [m for stage in options.stages for m in sample(stage, options.per_file)]
    if options.list:
        print("\n".join(m.name for m in chosen), len(chosen), sep="\n")
        return 0
    rows = {}
    if options.results.exists():
        lines = options.results.read_text().splitlines()
        rows = {row["mutant"]: row for row in map(json.loads, lines)}
    for mutant in chosen:
        if mutant.name not in rows:
            row = rows[mutant.name] = judge(mutant)
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row["mutant"], row["killed_by"] or "SURVIVED", flush=True)
    mine = [rows[m.name] for m in chosen]
    survivors = [row["mutant"] for row in mine if row["killed_by"] is None]
    unexplained = [name for name in survivors if name not in REASONS]
    for name in survivors:
        print(f"survived: {name}: {REASONS.get(name, 'no reason known')}")
    print(
        json.dumps({"mutants": len(mine), "survivors": len(survivors), "unexplained": unexplained})
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
