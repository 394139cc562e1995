"""The doctor: what it finds here, and what it says where something is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handrail.checks import install, ipc, machine, network, timing
from handrail.checks.doctor import main, role_works
from handrail.checks.result import FAIL, OK, ROLES, WARN, CheckResult

ROOT = Path(__file__).resolve().parents[3]


def doctor(*arguments, before="", **environment):
    program = (
        f"import sys\n{before}\nfrom handrail.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "doctor", *arguments],
        capture_output=True, text=True, timeout=200, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_roles_of_a_simulated_run_work_here():
    done = doctor("--json")
    report = json.loads(done.stdout)
    failures = [f for f in report["findings"] if f["state"] == FAIL]
    assert not failures
    assert done.returncode == 0
    assert report["roles"] == {"host": True, "actor": True, "learner": True, "sim": True}
    names = {f["name"] for f in report["findings"]}
    assert names >= {
        "python", "packages", "core", "learn", "sim", "GL", "jax", "cores", "memory", "disk",
        "fsync", "clock", "SCHED_FIFO", "locked memory", "kernel", "clock speed", "ZeroMQ ipc",
        "caches",
    }  # fmt: skip


def test_table_is_readable_without_a_terminal():
    done = doctor("--role", "actor")
    assert done.returncode == 0
    assert "✓ actor" in done.stdout.replace("  ", " ")
    assert "\x1b" not in done.stdout


def test_only_what_concerns_the_role_is_asked():
    names = {f["name"] for f in json.loads(doctor("--role", "actor", "--json").stdout)["findings"]}
    assert not names & {"GL", "sim", "clock", "dev"}


@pytest.mark.parametrize(
    ("module", "role", "fix"),
    [
        ("mujoco", "sim", "[sim]'"),
        ("jax", "learner", "[learn]'"),
        ("hypothesis", "dev", "[dev]'"),
        ("zmq", "host", "-m pip install"),
        ("rich", "actor", "-m pip install"),
    ],
)
def test_missing_package_fails_its_role_with_the_line_that_fixes_it(module, role, fix):
    hide = f"""
import importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""
    done = doctor("--role", role, before=hide)
    assert done.returncode == 1, done.stderr
    assert f"missing: {module}" in done.stdout
    assert fix in done.stdout
    assert "Traceback" not in done.stderr


def test_packages_from_two_folders_are_an_error(tmp_path):
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "__init__.py").write_text("")
    before = f"sys.path.insert(0, {str(tmp_path)!r})"
    done = doctor("--role", "actor", before=before)
    assert done.returncode == 1
    assert "from several folders" in done.stdout
    assert str(tmp_path) in done.stdout


def test_without_gl_the_sim_role_fails_and_names_the_libraries():
    done = doctor("--role", "sim", MUJOCO_GL="osmesa", PYOPENGL_PLATFORM="nonsense")
    if done.returncode == 0:
        pytest.skip("this machine renders whatever the platform is called")
    assert "apt-get install -y libegl1" in done.stdout


def test_unknown_role_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--role", "cook"])
    assert caught.value.code == 2
    assert "'cook'" in capsys.readouterr().err


def test_role_works_unless_something_of_its_own_fails():
    findings = [
        CheckResult("a", "x", FAIL, "", "", ("sim",)),
        CheckResult("a", "y", WARN, "", "", ("host",)),
    ]
    assert not role_works(findings, "sim")
    assert role_works(findings, "host")


def test_folder_that_cannot_be_written_is_found():
    found = {f.name: f.state for f in machine.resources(Path("/proc"))}
    assert found["fsync"] == FAIL


def test_clock_measures_lateness_of_every_wake_up():
    late = timing.wakeup_latencies(0.05)
    assert len(late) == 50
    assert min(late) >= 0.0
    (finding,) = timing.clocks(0.05)
    assert finding.state in (OK, WARN)


@pytest.mark.parametrize(
    ("governor", "state"), [("performance", OK), ("powersave", WARN), (None, OK)]
)
def test_cores_that_change_their_clock_are_found(tmp_path, governor, state):
    if governor is not None:
        for core in ("cpu0", "cpu1"):
            (tmp_path / core / "cpufreq").mkdir(parents=True)
            (tmp_path / core / "cpufreq" / "scaling_governor").write_text(governor + "\n")
    (finding,) = network.governors(tmp_path)
    assert finding.state == state
    assert ("cpupower" in finding.remedy) == (state == WARN)


@pytest.mark.parametrize(
    ("speed", "duplex", "wait", "state", "words"),
    [
        ("1000", "full", 0, OK, ""),
        ("-1", "unknown", None, OK, ""),
        ("1000", "full", 50, WARN, "rx-usecs 0"),
        ("10", "full", 0, WARN, "100 Mbit/s"),
        ("1000", "half", 0, WARN, "full duplex"),
    ],
)
def test_a_card_that_keeps_packets_is_found(speed, duplex, wait, state, words):
    found, _, remedy = network.evaluate_card("eno1", speed, duplex, wait)
    assert found == state
    assert words in remedy


def test_only_wired_cards_that_are_up_are_looked_at(tmp_path):
    for name, parts, operstate in (
        ("wired", ("device",), "up"),
        ("unplugged", ("device",), "down"),
        ("wlan", ("device", "wireless"), "up"),
        ("bridge", (), "up"),
    ):
        for part in ("", *parts):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "operstate").write_text(operstate)
    assert [f.name for f in network.network_cards(tmp_path)] == ["card wired"]
    (none,) = network.network_cards(tmp_path / "nowhere")
    assert "no wired network card" in none.text
    assert network.rx_coalescing_us("no-such-card") is None


def test_links_leave_nothing_behind():
    before = set(Path("/dev/shm").iterdir())
    assert {f.state for f in ipc.local_ipc()} == {OK}
    assert set(Path("/dev/shm").iterdir()) == before


def test_every_failure_comes_with_a_remedy():
    for finding in [*install.packages(), *install.dependencies(), *machine.resources(ROOT)]:
        assert set(finding.roles) <= set(ROLES)
        assert finding.state != FAIL or finding.remedy
