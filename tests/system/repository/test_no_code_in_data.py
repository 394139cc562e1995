"""Nothing that is read from a network or a disk can run code: no such call is in the tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = (
    "actor", "benchmarks", "controllers", "handrail", "launch", "learner", "rewards", "robot_env",
    "tests",
)  # fmt: skip
MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "jsonpickle", "shelve", "marshal",
    "joblib",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {  # a call of this name, whatever it is called on
    "recv_pyobj", "send_pyobj", "read_pickle", "to_pickle", "unsafe_load", "full_load",
    "object_", "load_module",
}  # fmt: skip
LOADS = {"yaml", "torch", "np", "numpy"}  # `load` of these takes code unless it is told not to
SAFE = {"torch": ("weights_only", True), "np": ("allow_pickle", False)}


def dangers(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything in a source that can make code of data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
            yield from ((node.lineno, name) for name in names if name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            yield from _calls(node)
        elif isinstance(node, ast.Attribute) and node.attr == "object_":
            yield node.lineno, "object_"


def _calls(node: ast.Call) -> Iterator[tuple[int, str]]:
    function, line = node.func, node.lineno
    if isinstance(function, ast.Name) and function.id in BUILTINS:
        yield line, function.id
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else ""
        if function.attr in ATTRIBUTES or (owner == "builtins" and function.attr in BUILTINS):
            yield line, function.attr
        if function.attr == "load" and owner in LOADS:
            name, value = SAFE.get("np" if owner == "numpy" else owner, ("", None))
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if given.get(name, object) is not value:
                yield line, f"{owner}.load without {name}={value}"
        if function.attr == "astype" and any(_is_object(a) for a in node.args):
            yield line, "an array of objects"
    for keyword in node.keywords:
        constant = getattr(keyword.value, "value", None)
        if keyword.arg == "allow_pickle" and constant is not False:
            yield line, "allow_pickle"
        if keyword.arg == "dtype" and _is_object(keyword.value):
            yield line, "an array of objects"


def _is_object(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id == "object"
    return isinstance(node, ast.Constant) and node.value in ("O", "object", "|O")


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_read_can_run_code(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} is empty"
    for path in paths:
        found = list(dangers(path.read_text(encoding="utf-8")))
        assert found == [], f"{path}: {found}"


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from marshal import loads",
        "import os, dill as d",
        "def f():\n    import shelve",
        "eval(text)",
        "exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "builtins.eval(text)",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "np.savez(path, allow_pickle=True)",
        "np.zeros(3, dtype=object)",
        "np.array(rows, dtype='O')",
        "rows.astype(object)",
        "np.zeros(3, np.object_)",
        "sock.recv_pyobj()",
        "pandas.read_pickle(path)",
    ],
)
def test_each_way_is_noticed(planted: str) -> None:
    assert list(dangers(planted))


@pytest.mark.parametrize(
    "harmless",
    ["re.compile(x)", "json.load(f)", "np.load(path, allow_pickle=False)", "model.eval()",
     "torch.load(path, weights_only=True)", "np.zeros(3, dtype=float)", "tomllib.load(f)"],
)  # fmt: skip
def test_what_is_harmless_passes(harmless: str) -> None:
    assert list(dangers(harmless)) == []
