"""What keeps the folders an architecture."""

import ast
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAY_IMPORT = {
    "handrail": set(),
    "controllers": {"handrail"},
    "robot_env": {"controllers", "handrail"},
    "learner": {"handrail"},
    "rewards": {"learner", "handrail"},
    "actor": {"robot_env", "controllers", "rewards", "learner", "handrail"},
}
CODE = (*MAY_IMPORT, "benchmarks", "examples", "launch", "tests")
TEXT = {".py", ".toml", ".md", ".yml", ".yaml", ".cff", ".cfg", ".xml", ".txt", ".json", ""}


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.module or ""


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_flow_down_only(package):
    assert sources(package), f"{package} is empty"
    for path in sources(package):
        ours = {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package] | {package}, path


def imports_among(paths):
    """Return what each module imports of the others, wherever the statement stands."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    found = {}
    for name, path in names.items():
        asked = set(imported(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                asked |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[name] = asked & set(names) - {name}
    return found


def in_circles(graph):
    """Return the nodes of a graph that are in a circle, or above one."""
    left = graph
    while leaves := {name for name, asked in left.items() if not asked}:
        left = {name: asked - leaves for name, asked in left.items() if name not in leaves}
    return sorted(left)


def test_no_modules_import_each_other_in_a_circle_not_even_for_their_types():
    assert in_circles(imports_among(sources(*MAY_IMPORT))) == []


def test_rooms_import_each_other_one_way_only():
    """A room is a package's folder with all below; a module at a package's root is its own."""
    folders = {f"{p.parent.name}.{p.name}" for q in MAY_IMPORT for p in (ROOT / q).iterdir()}

    def room(module):
        top = ".".join(module.split(".")[:2])
        return module if module.endswith("__main__") or top not in folders else top

    graph = {}
    for name, asked in imports_among(sources(*MAY_IMPORT)).items():
        graph.setdefault(room(name), set()).update(map(room, asked))
    assert len(graph) > 60
    assert in_circles({name: asked - {name} for name, asked in graph.items()}) == []


def test_a_name_is_imported_from_the_module_that_defines_it():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources(*CODE)}
    passed_on, defined = {}, {}
    for path, tree in trees.items():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        passed_on[module] = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        defined[module] = {
            node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        }
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{alias.name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in passed_on
        for alias in node.names
        if alias.name in passed_on[node.module] - defined[node.module]
    ]
    assert not wrong, wrong


def test_only_the_command_names_packages_above_it():
    pattern = re.compile(r'"(?:actor|learner|robot_env|controllers|rewards)\.[a-z_.]+"')
    naming = {p.name for p in sources("handrail") if pattern.search(p.read_text(encoding="utf-8"))}
    assert naming <= {"__main__.py"}


def test_no_folder_has_more_than_sixteen_files():
    beside = Counter(path.parent for path in committed())
    flat = (ROOT, ROOT / "controllers", ROOT / "benchmarks" / "results")
    assert {d: n for d, n in beside.items() if n > 16 and d not in flat} == {}


def modules_after(statement, whole=False):
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    names = set(done.stdout.split())
    return names if whole else {name.split(".")[0] for name in names}


def test_robot_host_never_imports_jax():
    loaded = modules_after("import robot_env.__main__, robot_env.env, robot_env.client")
    assert "mujoco" in loaded or "robot_env" in loaded
    assert not loaded & {"jax", "jaxlib", "optax", "learner", "actor"}


def test_learner_never_imports_a_device():
    loaded = modules_after("import learner.__main__, learner.service.server")
    assert "jax" in loaded
    assert not loaded & {"mujoco", "robot_env", "controllers", "actor"}


def test_acting_never_imports_what_trains():
    heavy = {"optax", "learner.trainer", "learner.data", "learner.algo.update", "scipy.special"}
    for statement in ("import learner.policy.policy", "import actor.loop.run_actor"):
        loaded = modules_after(statement, whole=True)
        assert "learner.policy.policy" in loaded
        assert not loaded & heavy, f"{statement}: {sorted(loaded & heavy)}"


def test_help_is_there_before_anything_heavy():
    loaded = modules_after("from handrail.__main__ import main\nmain(['--help'])")
    assert not loaded & {"numpy", "jax", "mujoco", "numba", "rich", "zmq"}


def test_ros_package_and_tests_hide_nothing():
    for folder in ("launch", "tests"):
        assert not list((ROOT / folder).rglob("__init__.py")), (
            f"{folder}/ is no package: with an __init__.py it hides another one of that name"
        )


def test_no_path_of_one_machine_is_written_down():
    places = "|".join(["home", "root", "Users", "work", "mnt"])
    pattern = re.compile(rf"(?<![\w.~)])/(?:{places})/\w")
    for path in committed():
        if path.suffix in TEXT and path.is_file() and path.name != "LICENSE":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not pattern.search(line), f"{path}:{number}: {line.strip()}"


def committed():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.splitlines()]
    return [*sources(*CODE), *ROOT.glob("*.*"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*")]


def test_every_version_is_the_same():
    from handrail import __version__

    for name in ("pyproject.toml", "CITATION.cff", "launch/package.xml", "launch/setup.py"):
        assert __version__ in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_wheel_has_the_configs_and_all_code_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {str(path.relative_to(ROOT)) for path in sources(*MAY_IMPORT)}
    wanted |= {f"handrail/configs/{path.name}" for path in (ROOT / "configs").glob("*.toml")}
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == set(MAY_IMPORT)
