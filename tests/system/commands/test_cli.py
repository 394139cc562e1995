"""The command `handrail`: help, errors in one line, exit codes, caches."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from handrail import __version__
from handrail.__main__ import COMMANDS, GROUPS, main, usage
from handrail.caches import cache_folder, use_caches

ROOT = Path(__file__).resolve().parents[3]


def handrail(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-m", "handrail", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def assert_one_clear_line(done, *words):
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_every_command_is_listed_once_with_what_it_does():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        assert f"{name:<10}{command.summary}" in usage()


def test_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"handrail {__version__}\n"


def test_without_a_command_there_is_help_and_a_bad_exit_code(capsys):
    assert main([]) == 2
    assert "handrail train peg" in capsys.readouterr().out


def test_command_that_is_mistyped_gets_a_hint(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == (
        "handrail: error: no command 'trian'; did you mean 'train'?\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    done = handrail(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"handrail {name}" in done.stdout or "--run" in done.stdout
    assert not done.stderr


@pytest.mark.slow
def test_task_that_does_not_exist_is_one_clear_line(tmp_path):
    done = handrail("train", "pegg", cwd=tmp_path)
    assert_one_clear_line(done, "handrail train: error:", "'pegg'", "reach")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_config_with_a_wrong_key_is_one_clear_line_and_changes_nothing(tmp_path):
    (tmp_path / "mine.toml").write_text("[task]\nname = 'reach'\nhorizn = 3\n", encoding="utf-8")
    done = handrail("train", "./mine.toml", cwd=tmp_path)
    assert_one_clear_line(done, "[task]", "'horizn'", "did you mean 'horizon'?")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["bc", "eval", "report"])
def test_folder_that_is_no_run_is_one_clear_line(tmp_path, command):
    assert_one_clear_line(handrail(command, tmp_path), "not a run folder", "run.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_run_folder_of_a_newer_format_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 99}', encoding="utf-8")
    assert_one_clear_line(handrail("train", "--resume", tmp_path), "format 99", "upgrade")


@pytest.mark.slow
def test_out_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    assert_one_clear_line(handrail("train", "reach", "--out", tmp_path), "not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def install(monkeypatch, run):
    module = types.ModuleType("a_command")
    vars(module)["main"] = run
    monkeypatch.setitem(sys.modules, "a_command", module)
    monkeypatch.setitem(COMMANDS, "doctor", COMMANDS["doctor"]._replace(module="a_command"))


def raising(error):
    def run(argv):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "runs/x"), 2, "No space left on device: runs/x"),
        (ModuleNotFoundError("no", name="jax.numpy"), 2, "pip install 'handrail[learn]'"),
        (ModuleNotFoundError("no", name="mujoco"), 2, "pip install 'handrail[sim]'"),
    ],
)
def test_what_goes_wrong_becomes_a_line_and_an_exit_code(monkeypatch, capsys, error, code, words):
    install(monkeypatch, raising(error))
    assert main(["doctor"]) == code
    assert words in capsys.readouterr().err


def test_a_bug_keeps_its_traceback_and_ends_with_what_and_where(monkeypatch, capsys):
    install(monkeypatch, raising(ModuleNotFoundError("no", name="handrail.nonsense")))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith(f"handrail doctor: error: ModuleNotFoundError: no at {__file__}:")


def test_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m handrail doctor --role dev --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_caches_are_where_the_user_wants_them(tmp_path):
    environment = {"HANDRAIL_CACHE": str(tmp_path / "mine"), "HOME": str(tmp_path / "home")}
    assert use_caches(environment) == tmp_path / "mine"
    for name in ("NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "MPLCONFIGDIR"):
        assert environment[name].startswith(str(tmp_path / "mine"))
    assert not (tmp_path / "home").exists()


def test_what_the_user_has_set_stays(tmp_path):
    environment = {"HANDRAIL_CACHE": str(tmp_path), "NUMBA_CACHE_DIR": "elsewhere"}
    use_caches(environment)
    assert environment["NUMBA_CACHE_DIR"] == "elsewhere"


@pytest.mark.parametrize("environment", [{}, {"HOME": "/proc/nobody"}, {"HOME": "/dev/null"}])
def test_without_a_writable_home_caches_go_to_a_temporary_folder(environment):
    folder = cache_folder(environment)
    assert folder.is_dir()
    assert os.access(folder, os.W_OK)
