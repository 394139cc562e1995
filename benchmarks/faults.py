"""SIGSTOP, SIGKILL and pauses of 50 ms, of actor, host and both, against the table of states.

`python benchmarks/faults.py --times 20` strikes real processes in real time, holds each blow's
flight recording against docs/safety.md, and prints what it measured; its last line is one JSON
object. State and order are judged in the host's own ticks; the figures are wall time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.fault_injection import (
    BLOWS,
    TRIES,
    Blow,
    Disturbed,
    Struck,
    first,
    hosted,
    new_run,
    overruns,
    strike,
)
from controllers.config import ControlConfig
from controllers.robot import Fault, Mode
from handrail.run_folder import Run
from robot_env.recorder.replay import replay

CONFIG = ControlConfig()
OVERRUN = 20  # [ticks], `HostConfig.overrun`
PERIOD = 0.1  # [s], of the policy
HANGS = 1.0  # [s], after which a client takes a host for hanging
SLOW = 5e-3  # [m/s]
Figures = dict[str, float]


def judge(blow: Blow, found: Struck) -> Figures:
    """Hold a blow against what is promised, and return its figures [ms], from the blow on.

    Raises:
        AssertionError: A promise is broken.
        Disturbed: The machine itself stalled the host after the blow.
    """
    caused = blow.who != "actor" and blow.how != "kill"
    if overruns(found.recording, found.struck) > caused:
        raise Disturbed("the host overran by itself")
    torque = found.recording["tick.torque"]
    assert np.isfinite(torque).all()
    if blow.how == "kill" and blow.who != "actor":
        return judge_killed_host(found)
    next_tick = (
        np.diff(found.recording["state.tick"]) == 1
    )  # a reset begins with a torque of its own
    assert np.abs(np.diff(torque, axis=0))[next_tick].max() <= CONFIG.torque_rate + 1e-9
    if blow.who != "actor":
        return judge_overrun(found)
    return {"pause": judge_pause, "stop": judge_stop, "kill": judge_death}[blow.how](found)


def judge_pause(found: Struck) -> Figures:
    """Judge a pause of the actor: held in the very tick that its heart is late, never stopped."""
    recording, after = found.recording, found.recording.wall > found.struck
    mode, late = recording["mode"][after], recording["mailbox.heartbeat"][after] > CONFIG.heartbeat
    wall, seq = recording.wall[after], recording["seq"][after]
    assert set(mode) <= {Mode.FOLLOWING, Mode.HOLDING}
    assert not recording["fault"][after].any()
    assert (mode[late] == Mode.HOLDING).all()
    news = np.flatnonzero(np.diff(seq) > 0) + 1
    usable = news[~late[news]]  # one that overtakes the heart's first beat only renews the hold
    assert (mode[usable] == Mode.FOLLOWING).all()  # each is followed in its tick
    assert mode[-1] == Mode.FOLLOWING or late[-1]
    held = mode == Mode.HOLDING
    ticks = int(held.sum())
    begin = 1e3 * (wall[first(held)] - found.struck) if ticks else float("nan")
    return {"holding": begin, "held": float(ticks)}


def judge_stop(found: Struck) -> Figures:
    """Judge a stopped actor: hold in the tick that its heart is late, soften, soft stop."""
    recording, after = found.recording, found.recording.wall > found.struck
    late = recording["mailbox.heartbeat"] > CONFIG.heartbeat
    assert recording["mode"][first(after & late)] == Mode.HOLDING
    return judge_decline(found, first(after & (recording["mode"] == Mode.HOLDING)))


def judge_death(found: Struck) -> Figures:
    """Judge a killed actor: hold in the first tick after the kernel told of it, then as stopped."""
    recording = found.recording
    (told,) = [e.row for e in recording.events if e.what == "the client was lost"][-1:]
    assert recording["mode"][told] == Mode.HOLDING
    assert (recording["mode"][told - 1]) == Mode.FOLLOWING
    return judge_decline(found, told)


def judge_decline(found: Struck, hold: int) -> Figures:
    """Judge what follows a hold for want of a heartbeat, in ticks; return when it came."""
    recording = found.recording
    mode, tick, wall = recording["mode"], recording["state.tick"], recording.wall
    share, rows = recording["stiffness_scale"], np.arange(len(recording))
    stop = first((mode == Mode.SOFT_STOP) & (rows > hold))
    soften = first((share < 1.0) & (rows >= hold))
    assert (mode[hold:stop] == Mode.HOLDING).all()
    assert abs(tick[soften] - tick[hold] - 1e3 * CONFIG.hold_time) <= 2
    assert abs(tick[stop] - tick[hold] - 1e3 * CONFIG.stop_time) <= 2
    assert (mode[stop:] == Mode.SOFT_STOP).all()
    assert recording["fault"][-1] == Fault.HEARTBEAT_LOST
    assert abs(share[-1] - CONFIG.stop_stiffness) < 1e-6
    names = {"holding": hold, "softer": soften, "soft_stop": stop}
    figures = {name: 1e3 * (wall[row] - found.struck) for name, row in names.items()}
    return figures | {"moving": moving(found, found.struck)}


def judge_overrun(found: Struck) -> Figures:
    """Judge a host that was kept from its ticks: soft stop in the next one, nothing made up."""
    recording, wall = found.recording, found.recording.wall
    at = first(recording.wake > found.resumed)  # a tick that was cut in two ends after the pause
    mode, fault = recording["mode"], recording["fault"]
    missed = recording["late"][at] - recording["late"][at - 1]
    assert missed >= OVERRUN
    assert recording["tick.wake"][at - 1] < recording["tick.wake"][at]
    assert recording["state.tick"][at] == recording["state.tick"][at - 1] + 1
    # one that was cut before it asked for the heart's age finds it late, if the actor paused too
    cut = wall[at - 1] > found.resumed
    assert mode[at - 1] == Mode.FOLLOWING or (cut and mode[at - 1] == Mode.HOLDING)
    assert (mode[at:] == Mode.SOFT_STOP).all()
    assert (fault[at:] == Fault.OVERRUN).all()
    if found.lost == found.lost:
        assert found.lost - found.struck < HANGS + 2 * PERIOD + 0.5
    return {
        "missed": float(missed),
        "soft_stop": 1e3 * (wall[at] - found.resumed),
        "moving": moving(found, found.resumed),
        "actor_told": 1e3 * (found.lost - found.struck),
    }


def judge_killed_host(found: Struck) -> Figures:
    """Judge what a killed host leaves: every tick up to its death, and an actor that knows."""
    recording = found.recording
    verdict = replay(recording)
    assert verdict.first is None
    assert verdict.gaps == 0
    assert recording.torn <= 1
    assert recording["mode"][-1] == Mode.FOLLOWING
    assert not found.lost - found.struck > PERIOD + 0.5
    return {
        "last_tick": 1e3 * (recording.wall[-1] - found.struck),
        "actor_told": 1e3 * (found.lost - found.struck),
    }


def moving(found: Struck, since: float) -> float:
    """Return for how long the tool was faster than 5 mm/s, from positions 20 ticks apart [ms]."""
    place, wall = found.recording["pose"][:, :3], found.recording.wall
    speed = np.linalg.norm(place[20:] - place[:-20], axis=1) / 0.02
    fast = wall[20:][speed > SLOW]
    assert len(fast) == 0 or fast[-1] < wall[-1], "it still moves when the recording ends"
    return max(0.0, 1e3 * (fast[-1] - since)) if len(fast) else 0.0


def try_blow(run: Run, host: subprocess.Popen[bytes], blow: Blow, wait: float) -> Figures:
    """Strike once and judge.

    Raises:
        AssertionError: A promise is broken.
        Disturbed: The machine itself stalled the processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        return judge(blow, strike(run, host, blow, Path(folder), wait))


def measure(blow: Blow, times: int, folder: Path) -> dict[str, Any]:
    """Strike some times, and return median and worst of the figures, and the promises broken.

    Args:
        blow: Whom to strike, and how.
        times: How many blows that nothing else disturbed [-].
        folder: For the run.
    """
    rng = np.random.default_rng([BLOWS.index(blow)])
    rows: list[Figures] = []
    disturbed, broken = 0, []
    run = new_run(folder / "-".join(blow))
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(hosted(run))
        while len(rows) + len(broken) < times and disturbed < TRIES * times:
            if host.poll() is not None:
                stack.close()
                host = stack.enter_context(hosted(run))
            try:
                rows.append(try_blow(run, host, blow, float(rng.uniform(0.0, 0.8))))
            except Disturbed:
                disturbed += 1
            except AssertionError as error:
                line = traceback.extract_tb(error.__traceback__)[-1].line
                broken.append(f"{line}: {error}")
    columns = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    figures = {
        name: {"median": round(float(np.nanmedian(v)), 1), "worst": round(float(np.nanmax(v)), 1)}
        for name, v in columns.items()
        if not np.isnan(v).all()
    }
    return {"blows": len(rows) + len(broken), "broken": broken, "disturbed": disturbed} | figures


def main() -> None:
    """Strike, print a row per kind of blow, and all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="blows of each kind")
    parser.add_argument("--only", default="", help="kinds such as actor-kill,host-pause")
    options = parser.parse_args()
    wanted = [b for b in BLOWS if not options.only or "-".join(b) in options.only.split(",")]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for blow in wanted:
            name = "-".join(blow)
            results[name] = measure(blow, options.times, Path(folder))
            print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    print(json.dumps({"times": options.times, "blows": results}))


if __name__ == "__main__":
    main()
