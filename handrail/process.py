"""Manners of every process: die with the supervisor, keep to its cores, log to stderr."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys

from handrail.log_rate_limit import RateLimitedFilter

SUPERVISOR_ENV = "HANDRAIL_SUPERVISOR"  # environment: pid of the supervisor
CORES_ENV = "HANDRAIL_CORES"  # environment: comma-separated cores of this process
KEYS_ENV = "HANDRAIL_KEYS"  # environment: folder of this host's keys, instead of [link] keys
FD_LIMIT = 8192  # [-], of a process that others connect to; the usual limit is 1024
_PR_SET_PDEATHSIG = 1


def attach_to_supervisor(death_signal: signal.Signals) -> None:
    """Have the kernel send `death_signal` when the supervisor dies, and keep to the given cores.

    Without a supervisor in the environment nothing happens.

    Args:
        death_signal: SIGKILL where every write is crash-safe, SIGTERM where the arm must come to
            rest.
    """
    cores = os.environ.get(CORES_ENV)
    if cores:
        with contextlib.suppress(OSError, ValueError):
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    supervisor = os.environ.get(SUPERVISOR_ENV)
    if not supervisor:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(supervisor):  # it died before the call above
        raise SystemExit(1)


def raise_fd_limit(count: int = FD_LIMIT) -> int:
    """Let this process open so many files and sockets, or as many as the system lets it.

    Returns:
        How many it may open now; never fewer than before.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def split_cores(available: list[int]) -> dict[str, str]:
    """Return each role's cores: the robot's side on the first, the learner on the rest.

    Args:
        available: Cores that the supervisor may use.
    """
    if len(available) < 2:
        return {}
    if len(available) == 2:
        robot, learner = available[:1], available[1:]
        return {"host": _join(robot), "actor": _join(robot), "learner": _join(learner)}
    return {
        "host": _join(available[:1]),
        "actor": _join(available[1:2]),
        "learner": _join(available[2:]),
    }


def log_to_stderr(name: str) -> logging.Logger:
    """Return a process's logger; other people's libraries are heard from warnings on.

    What others can provoke can't fill it, see `log_rate_limit`.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, RateLimitedFilter) for known in handler.filters):
            handler.addFilter(RateLimitedFilter())
    for own in (name, "handrail"):
        logging.getLogger(own).setLevel(logging.INFO)
    return logging.getLogger(name)


def _join(cores: list[int]) -> str:
    return ",".join(map(str, cores))
