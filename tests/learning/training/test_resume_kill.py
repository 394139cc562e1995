"""A learner that was killed ends where an undisturbed one ends, to the bit: real processes."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actor.cli.run_folders import create_configured_run
from handrail.errors import LinkTimeout
from handrail.link.config import LinkConfig, resolve_link
from handrail.link.rpc import RpcClient
from handrail.run_folder import Run
from handrail.spec import EnvSpec, load_spec
from handrail.transition import Source, Transition
from learner.algo.utd_governor import allowed
from learner.store.checkpoint import Checkpoints
from learner.store.store import Store

STEPS, LENGTH, DEMOS = 1500, 50, 3
OVERRIDES = ["--run.steps", str(STEPS), "--run.demos", str(DEMOS), "--run.seed", "5"]
OVERRIDES += ["--learner.hidden", "32", "32", "--learner.batch", "32", "--learner.num-qs", "3"]
KILLS = 4


def episode(spec: EnvSpec, number: int, source: Source, rng: np.random.Generator) -> Any:
    """Yield the rows of a random walk; demonstrations succeed, and two of three others."""
    state = rng.normal(size=spec.state).astype(np.float32)
    success = source == Source.DEMO or number % 3 > 0
    zero = np.zeros(spec.action, np.float32)
    for t in range(LENGTH + 1):
        state = state + 0.1 * rng.normal(size=spec.state).astype(np.float32)
        action = rng.uniform(-1.0, 1.0, spec.action).astype(np.float32)
        last = t == LENGTH - 1
        yield Transition(
            number,
            t,
            source,
            state,
            action,
            action,
            zero,
            zero,
            reward=float(last and success),
            terminated=last and success,
            truncated=last and not success,
            success=last and success,
            end=t == LENGTH,
        )


def filled_run(folder: Path) -> tuple[Run, int]:
    """Return a run whose store has all its rows, and the number of updates that they allow."""
    run, config = create_configured_run("reach", OVERRIDES, folder)
    spec, rng = load_spec(run.spec), np.random.default_rng(0)
    with Store(run.store, spec) as store:
        for number in range(DEMOS):
            store.put_rows("demos", list(episode(spec, number, Source.DEMO, rng)))
        for number in range(DEMOS, DEMOS + STEPS // LENGTH):
            store.put_rows("arm", list(episode(spec, number, Source.ONLINE, rng)))
    return run, allowed(config.learner, STEPS)


@contextlib.contextmanager
def learner(run: Run) -> Iterator[tuple[subprocess.Popen[bytes], RpcClient]]:
    """Start the learner's own command; yield the process and a line to it."""
    command = [sys.executable, "-m", "handrail", "learner", "--run", str(run.folder)]
    with (
        open(run.folder / "learner.out", "ab") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
        RpcClient(resolve_link(run, LinkConfig(), listens=False).request) as line,
    ):
        try:
            yield process, line
        finally:
            process.kill()


def wait_for(line: RpcClient, process: subprocess.Popen[bytes], updates: int) -> int:
    """Wait until so many updates are done; return how many are."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        assert process.poll() is None
        with contextlib.suppress(LinkTimeout):
            done = line.call("status", timeout_s=1.0)["updates"]
            if done >= updates:
                return done
        time.sleep(0.01)
    raise AssertionError(f"waited 120 s for update {updates}")


def finish(run: Run, updates: int) -> dict[str, Any]:
    """Let the learner do what is left and end by itself; return its last checkpoint."""
    with learner(run) as (process, line):
        wait_for(line, process, updates)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    return Checkpoints(run.checkpoints).load()


@pytest.mark.slow
def test_a_killed_learner_ends_where_an_undisturbed_one_does_to_the_bit(tmp_path: Path) -> None:
    whole, updates = filled_run(tmp_path / "whole")
    killed, _ = filled_run(tmp_path / "killed")
    rng, resumed_at = random.Random(), []
    for kill in range(KILLS):
        with learner(killed) as (process, line):
            at = rng.randrange(updates * kill // KILLS, updates * (kill + 1) // KILLS)
            wait_for(line, process, at)
            if kill % 2 == 0:  # the others lose all that they did
                resumed_at.append(line.call("checkpoint", timeout_s=30.0)["updates"])
            time.sleep(rng.uniform(0.0, 0.2))
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert 0 < max(resumed_at) < updates, resumed_at
    a, b = finish(whole, updates), finish(killed, updates)
    assert a["meta"]["updates"] == b["meta"]["updates"] == updates
    trained, again = ({n: x for n, x in c["arrays"].items() if not _published(n)} for c in (a, b))
    assert trained.keys() == again.keys()
    for name, array in trained.items():
        assert array.tobytes() == again[name].tobytes(), name


def _published(name: str) -> bool:
    """Return whether an array is what the gate let through last; that depends on time."""
    return name.startswith("good/")
