"""Try a gymnasium environment in a process of its own, so that nothing it does can hurt a run.

The process makes the environment, resets it and takes random steps; it says what it is about to do
before it does it. So an exit, a crash and a call that never returns are named with the step. When
the process has ended, no environment is left open: it may hold a device that opens once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handrail.config import from_dict, to_dict
from handrail.errors import ConfigError, Error
from handrail.process import SUPERVISOR_ENV, attach_to_supervisor
from handrail.processes.exit_record import describe_error, is_users
from handrail.spec import EnvSpec
from robot_env.gym.config import GymConfig
from robot_env.gym.contract import check_observation
from robot_env.gym.env import GymEnv
from robot_env.gym.make import UnknownEnvironment
from robot_env.gym.slow_calls import SLOW_S
from robot_env.gym.task import GymTask
from robot_env.tasks.config import TaskConfig

DEADLINE_S = 60.0  # [s], of one call; making one may compile
DOOR_STEPS, DOOR_S = 50, 2.0  # [steps], [s], that a run's door takes at most
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+)')


@dataclass
class Probe:
    """What an environment did."""

    spec: EnvSpec
    steps: int = 0  # that were taken
    ended: bool = False  # an episode came to its end
    notes: list[str] = field(default_factory=list)  # what is untidy, but can be learned from


def probe_env(
    task: TaskConfig,
    config: GymConfig,
    say: Callable[[str], None],
    *,
    steps: int = DOOR_STEPS,
    seconds: float = DOOR_S,
    deadline: float = DEADLINE_S,
) -> Probe:
    """Try an environment.

    Args:
        task: Table [task].
        config: Table [gym].
        say: Told of a call that takes long.
        steps: To take at most [steps]; it stops at the end of the first episode.
        seconds: To take steps for [s].
        deadline: Of one call [s].

    Raises:
        UnknownEnvironment: No environment has that id, in a process that starts afresh.
        ConfigError: It can't be learned from, or misbehaves; the message says what it was doing,
            what came of it, and what would be right.
    """
    order = json.dumps([to_dict(task), to_dict(config), steps, seconds])
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile() as faults:
        child = subprocess.Popen(
            [sys.executable, "-m", "robot_env.gym.probe", order, str(writing), faults.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            env={**os.environ, SUPERVISOR_ENV: str(os.getpid())},
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to pass on
        )
        os.close(writing)
        try:
            return _follow(task.name, child, reading, faults.name, say, deadline)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # it, and what the environment has started
            child.wait()
            os.close(reading)


def _follow(
    name: str,
    child: subprocess.Popen[bytes],
    reading: int,
    faults: str,
    say: Callable[[str], None],
    deadline: float,
) -> Probe:
    doing, result = f"{name}: start", None
    for word in _words(reading, say, deadline, name):
        if "doing" in word:
            doing = word["doing"]
        elif "error" in word:
            raise (UnknownEnvironment if word["unknown"] else ConfigError)(word["error"])
        elif "spec" in word:
            result = Probe(from_dict(EnvSpec, word["spec"], "spec"))
        elif "silent" in word:
            child.send_signal(signal.SIGUSR1)  # faulthandler writes where it is
            time.sleep(0.2)
            raise ConfigError(
                f"{doing} has not returned for {deadline:g} s{_place(faults)}; right is a call "
                f"that ends, and raises an error where a device doesn't answer"
            )
        elif result is not None:
            result.steps, result.ended = word["steps"], word["ended"]
            result.notes = word["notes"]
            return result
    code = child.wait()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    raise ConfigError(
        f"{doing} ended the whole process {how}{_place(faults)}; right is to raise an error"
    )


def _words(
    reading: int, say: Callable[[str], None], deadline: float, name: str
) -> Iterator[dict[str, Any]]:
    """Yield what the process says, and {"silent": True} where it says nothing for too long."""
    began, told, doing, rest = time.monotonic(), False, f"{name}: start", b""
    allowed = max(deadline, DEADLINE_S)  # until the process is there, which is no call of its own
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while True:
            if selector.select(0.1):
                data = os.read(reading, 1 << 16)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    word = json.loads(line)
                    doing, began, told = word.get("doing", doing), time.monotonic(), False
                    allowed = deadline
                    yield word
                continue
            silent = time.monotonic() - began
            if silent > min(SLOW_S, allowed) and not told:
                told = True
                say(f"{doing} has not returned for {silent:.0f} s; waiting up to {allowed:g} s")
            if silent > allowed:
                yield {"silent": True}


def _place(faults: str) -> str:
    """Return where faulthandler saw the environment: its user's own code if it is there."""
    with open(faults, encoding="utf-8", errors="replace") as file:
        text = file.read()
    main = re.split(r"(?:Current t|T)hread [^\n]*\n", text)
    frames = [match.group("file", "line") for part in main for match in _FRAME.finditer(part)]
    found = [frame for frame in frames if is_users(frame[0])]
    return f" at {found[0][0]}:{found[0][1]}" if found else ""


def _try(order: str, writing: int) -> None:
    """Be the process: make, reset, step, and say each before it is done."""
    table, gym, steps, seconds = json.loads(order)
    task = from_dict(TaskConfig, table, "task")
    doing = f"{task.name}: making it"

    def tell(**word: Any) -> None:
        os.write(writing, json.dumps(word).encode() + b"\n")

    try:
        tell(doing=doing)
        made = GymTask(task, from_dict(GymConfig, gym, "gym"))
        tell(spec=to_dict(made.spec))
        env = GymEnv(made, say=lambda text: None)  # whoever reads the pipe says it
        notes: dict[str, None] = {}
        doing = f"{task.name}: reset"
        tell(doing=doing)
        env.reset(seed=0)
        notes.update(dict.fromkeys(check_observation(made.parts, env.raw, doing)))
        rng, taken, ended = np.random.default_rng(0), 0, False
        until = time.monotonic() + seconds
        while taken < steps and not ended and time.monotonic() < until:
            doing = f"{task.name}: step {taken}"
            tell(doing=doing)
            action = rng.uniform(-1.0, 1.0, made.spec.action).astype(np.float32)
            _, _, terminated, truncated, _ = env.step(action)
            taken, ended = taken + 1, terminated or truncated
            if not notes:
                notes.update(dict.fromkeys(check_observation(made.parts, env.raw, doing)))
        doing = f"{task.name}: close"
        tell(doing=doing)
        env.close()
        tell(steps=taken, ended=ended, notes=list(notes))
    except Error as error:
        tell(error=str(error), unknown=isinstance(error, UnknownEnvironment))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever an environment may raise, SystemExit too
        text = f"{doing} raised {describe_error(error)}"
        if isinstance(error, EOFError):
            text += (
                "; standard input is empty in a run: an environment can't ask by input(), it takes "
                "what it needs from [gym] kwargs"
            )
        if isinstance(error, SystemExit):
            text += "; right is to raise an error that says what is wrong"
        tell(error=text, unknown=False)


if __name__ == "__main__":
    attach_to_supervisor(signal.SIGKILL)
    with contextlib.ExitStack() as stack:
        fault_file = stack.enter_context(open(sys.argv[3], "w", encoding="utf-8"))
        faulthandler.enable(fault_file)
        faulthandler.register(signal.SIGUSR1, fault_file)
        _try(sys.argv[1], int(sys.argv[2]))
