"""Caches outside the tree, slow tests last, rows of metrics as a run writes them, link sockets."""

import math
import random
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
import zmq
from bare_loop import BareLoop, run_beside
from zmq.utils.garbage import GarbageCollectorThread

from handrail.caches import use_caches

use_caches()  # before numba or jax is imported
LOOP = pytest.StashKey[BareLoop]()


def pytest_addoption(parser):
    parser.addoption("--shard", metavar="K/N", help="the K-th of N equal parts of the tests")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    if shard := config.getoption("shard"):
        mine, parts = (int(number) for number in shard.split("/"))
        if not 1 <= mine <= parts:
            raise pytest.UsageError(f"--shard {shard}: K/N with K from 1 to N")
        chosen = [item for number, item in enumerate(items) if number % parts == mine - 1]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def pytest_runtest_protocol(item, nextitem):
    if item.get_closest_marker("wallclock") is None:
        return None
    if LOOP not in item.config.stash:
        item.config.stash[LOOP] = BareLoop()
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    run_beside(item.config.stash[LOOP].worst, item, nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_unconfigure(config):
    if LOOP in config.stash:
        config.stash[LOOP].close()


@pytest.fixture(scope="session")
def metric_rows():
    """Return rows like those of a whole run: 20 demonstrations, 2000 steps, an evaluation."""
    rng = random.Random(0)
    rows = []
    clock = 0.0

    def write(kind, **values):
        role = "learner" if kind in ("learner", "base") else "actor"
        rows.append({"kind": kind, "role": role, "time": round(clock, 3), **values})

    write("phase", phase="record", env_steps=0)
    for demo in range(20):
        clock += 1.0
        write("episode", phase="record", env_steps=0, success=True, length=60, demos=demo + 1)
    write("phase", phase="base", env_steps=0)
    for step in range(0, 1000, 200):
        clock += 1.0
        write("base", step=step, train_loss=0.5, validation_loss=0.1 + math.exp(-step / 500))
    env_steps = 0
    while env_steps < 2000:
        phase = "collect" if env_steps < 200 else "warmup" if env_steps < 400 else "online"
        taken_over = env_steps < 1000 and rng.random() < 0.4
        env_steps += 40
        clock += 1.0
        write(
            "actor", phase=phase, env_steps=env_steps, tick_us=25.0, tank_j=0.9, spool_depth=3,
            steps_per_s=40.0, policy_version=env_steps // 25, connected=True,
            authority="human" if taken_over else "policy",
        )  # fmt: skip
        write(
            "learner", env_steps=env_steps, updates=2 * env_steps, updates_per_step=2.0,
            q=env_steps / 2000, gain=0.5, phase=phase, refused=int(env_steps > 700),
            td_holdout=0.06 + 0.02 * rng.random(), td_online=0.05, td_demo=0.02,
            q_bias=0.3 * math.exp(-env_steps / 500) - 0.02, dormant_critic=0.01 + env_steps * 1e-5,
            dormant_actor=0.0, norm_critic=60 + env_steps / 100, norm_actor=20.0,
        )  # fmt: skip
        success = rng.random() < 0.4 + env_steps / 4000
        write(
            "episode", phase=phase, env_steps=env_steps, success=success, length=40,
            autonomous=not taken_over, human_steps=10 if taken_over else 0,
            takeovers=2 if taken_over else 0, **{"return": float(success)},
        )  # fmt: skip
    write("event", text="learner died (SIGKILL), started again")
    write("phase", phase="evaluation", env_steps=env_steps)
    for start in range(50):
        for policy, share in (("policy", 0.9), ("base", 0.5), ("trivial/push", 0.1)):
            clock += 0.5
            success = (start % 10) < round(10 * share)
            write("eval", policy=policy, start=start, env_steps=env_steps, success=success)
    return rows


@pytest.fixture
def endpoint() -> str:
    return f"ipc://@handrail-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def raw() -> Iterator[Callable[[int], zmq.Socket]]:
    """Make sockets without the link's manners."""
    context = zmq.Context()
    made = []

    def make(kind: int) -> zmq.Socket:
        made.append(context.socket(kind))
        return made[-1]

    yield make
    for sock in made:
        sock.close(linger=0)
    context.term()


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    new = set(threading.enumerate()) - before
    # besides pyzmq's own for frames sent without a copy
    assert [thread for thread in new if not isinstance(thread, GarbageCollectorThread)] == []
