"""The command `handrail`: one subcommand per thing to do, each loaded only when it is asked for.

This is the one place that names packages above this one, and only as strings.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import io
import os
import sys
import traceback
from typing import NamedTuple

from handrail import __version__
from handrail.caches import use_caches
from handrail.errors import Error
from handrail.processes.exit_record import comes_from_user, describe_error
from handrail.processes.stop import INTERRUPTED

BAD_INPUT = 2  # exit code where the input was wrong
FAILED = 1  # exit code where something failed that nobody foresaw


class Command(NamedTuple):
    """A subcommand."""

    module: str  # has main(argv) -> exit code
    summary: str


COMMANDS = {
    "train": Command("actor.cli.train", "train a task through the whole stack"),
    "new": Command("actor.cli.new", "make a run folder, for processes on several hosts"),
    "record": Command("actor.cli.record", "record demonstrations into a run folder"),
    "bc": Command("actor.cli.bc", "train the base policy from demonstrations"),
    "eval": Command("actor.cli.eval", "evaluate a run's newest checkpoint"),
    "status": Command("actor.cli.status", "how a run stands now, on each of its hosts"),
    "report": Command("actor.cli.report", "write a run's summary and picture again"),
    "risk": Command("actor.cli.risk.command", "train, calibrate or plot a run's risk critic"),
    "recorder": Command(
        "robot_env.recorder.commands", "the flight recorder: dump, plot, replay, ls"
    ),
    "data": Command(
        "actor.cli.data",
        "a run's rows: ls, verify, repair, prune, export, backup, label, …",
    ),
    "keys": Command("handrail.keys.commands", "this host's keys, and which hosts it lets in"),
    "check-env": Command(
        "robot_env.gym.commands", "try a gymnasium environment, and say what is wrong with it"
    ),
    "doctor": Command(
        "handrail.checks.doctor", "say what works here, and what to do where it doesn't"
    ),
    "host": Command("robot_env.__main__", "the robot's control process"),
    "actor": Command("actor.__main__", "the actor's process"),
    "learner": Command("learner.__main__", "the learner's process"),
}
SLOW = ("train", "record", "bc", "eval", "risk")  # they import jax first, which takes seconds
GROUPS = {
    "work": ("train", "record", "bc", "eval", "report", "risk"),
    "a run": ("new", "status", "data", "recorder"),
    "this machine": ("doctor", "check-env", "keys"),
    "the processes of a run (`train` starts them)": ("host", "actor", "learner"),
}
EXTRAS = {  # what a missing module is installed by
    "jax": "learn",
    "optax": "learn",
    "safetensors": "learn",
    "tensorboardX": "learn",
    "matplotlib": "learn",
    "mujoco": "sim",
    "imageio": "sim",
    "mcap": "recorder",
}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the arguments name; return the exit code.

    Args:
        argv: Arguments without the program's name; those of this process where it is None.
    """
    if argv is None:
        use_utf8()
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else BAD_INPUT
    if arguments[0] in ("-V", "--version"):
        print(f"handrail {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
        print(f"handrail: error: no command {name!r}; {hint}", file=sys.stderr)
        return BAD_INPUT
    return _dispatch(name, arguments[1:])


def usage() -> str:
    """Return the help text."""
    lines = [
        "usage: handrail COMMAND [options]",
        "",
        "Learn contact-rich manipulation on the real arm, with a person's hand on the rail.",
    ]
    for title, names in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<10}{COMMANDS[name].summary}" for name in names]
    lines += [
        "",
        "options:",
        "  -h, --help      this text; `handrail COMMAND --help` tells more about a command",
        "  -V, --version   the version",
        "",
        "Start here: handrail train peg",
        "HANDRAIL_DEBUG=1 shows an error's traceback; HANDRAIL_CACHE is the folder for caches.",
    ]
    return "\n".join(lines)


def use_utf8() -> None:
    """Begin this process again in Python's UTF-8 mode where the locale has another encoding.

    In a C locale a folder's umlaut is no text that a database, a checkpoint or a picture could be
    named by; child processes inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def _dispatch(name: str, argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the locale lacks is no failure
            stream.reconfigure(errors="backslashreplace")
    use_caches()
    if name in SLOW and not {"-h", "--help", "--help-config", "--json"} & set(argv):
        print(f"handrail {name}: loading …", flush=True)
    try:
        return importlib.import_module(COMMANDS[name].module).main(argv)
    except KeyboardInterrupt:
        print(f"\nhandrail {name}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Error, ModuleNotFoundError, OSError) as error:
        message = _explain(error)
        if message is None or os.environ.get("HANDRAIL_DEBUG"):
            return _failed(name, error)
        print(f"handrail {name}: error: {message}", file=sys.stderr)
        return BAD_INPUT
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not comes_from_user(error):
            raise  # help, or a bad option: said already
        return _failed(name, error)
    finally:
        gc.freeze()  # Python would go through all that libraries made, seconds long, to end


def _failed(name: str, error: BaseException) -> int:
    """Tell of an error that nobody foresaw: everything, then what and where in one line."""
    traceback.print_exception(error)
    print(f"handrail {name}: error: {describe_error(error)}", file=sys.stderr)
    return FAILED


def _explain(error: Exception) -> str | None:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            return None
        return (
            f"this needs the package {package!r}, which is not installed; "
            f"run: {sys.executable} -m pip install 'handrail[{EXTRAS[package]}]'"
        )
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
