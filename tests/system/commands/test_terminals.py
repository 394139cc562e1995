"""What a command says, and that it works, on terminals and in locales that lack something."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from handrail.errors import StorageError
from handrail.storage.database import translate_errors

SMALL = ("--learner.num-qs", "2", "--learner.batch", "32", "--learner.hidden", "32", "32",
         "--learner.utd", "1", "--run.steps", "200", "--run.eval-episodes", "1")  # fmt: skip
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UNSET = ("PYTHONUTF8", "PYTHONIOENCODING", "LANG", "LC_CTYPE")


def environment(**changes: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in UNSET} | changes


@pytest.mark.slow
def test_a_whole_run_in_the_c_locale_in_a_folder_with_an_umlaut(tmp_path: Path):
    folder = tmp_path / "läufe"
    folder.mkdir()

    def handrail(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "handrail", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(**C_LOCALE),
            timeout=240,
        )  # fmt: skip
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, said
        return said

    handrail("train", "pendulum", "--out", "prüf", "--no-video", *SMALL)
    handrail("report", "prüf")
    handrail("data", "verify", "prüf")
    assert (folder / "prüf" / "report.png").stat().st_size > 0


def test_a_letter_that_the_output_lacks_is_no_failure():
    for encoding in ("ascii", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-m", "handrail", "doctor", "--role", "dev"], capture_output=True,
            env=environment(PYTHONIOENCODING=encoding), timeout=60,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        assert b"dev" in done.stdout
        assert b"UnicodeEncodeError" not in done.stderr


def test_a_name_that_the_locale_lacks_is_not_called_damage(tmp_path: Path):
    path = tmp_path / "l\udcc3\udca4ufe"
    with pytest.raises(StorageError, match="PYTHONUTF8=1"), translate_errors(path, "opening"):
        apsw.Connection(str(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("term", "inline"),
    [(None, ()), ("dumb", ()), ("dumb", ("--inline",)), ("xterm", ("--inline",))],
)
def test_the_first_second_says_what_is_done_and_every_phase_is_seen(term, inline, tmp_path: Path):
    """None: into a pipe. The first second is taken ten times, for a busy machine."""
    reader, writer = os.pipe() if term is None else pty.openpty()
    command = ["train", "pendulum", "--out", str(tmp_path / "run"), "--no-video", *SMALL, *inline]
    begun = time.monotonic()
    training = subprocess.Popen(
        [sys.executable, "-m", "handrail", *command], stdin=subprocess.DEVNULL, stdout=writer,
        stderr=writer, env=environment(TERM=term or "xterm", LC_ALL="C.UTF-8"),
    )  # fmt: skip
    os.close(writer)
    said, first = b"", float("inf")
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # a terminal's way of saying that nobody writes any more
            break
        if not piece:
            break
        first = min(first, time.monotonic() - begun)
        said += piece
    os.close(reader)
    assert training.wait(60) == 0, said.decode()
    assert first < 10.0
    text = said.decode()
    assert "loading" in text
    for phase in ("roll-outs", "online", "evaluation"):
        assert phase in text, text
    if term != "xterm":
        assert "\x1b" not in text
        assert any("1/1" in line for line in text.splitlines())
    if not inline:
        assert "learner, actor start" in text
