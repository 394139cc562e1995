"""Kill actors, learner and proxies at random; in the end the store has each row once, to the bit.

    python tests/stress/chaos/chaos.py --transitions 100000 --kills 200

Two actors send to one learner over loopback TCP, one through a proxy of bytes, one through a proxy
of messages (`chaos_proxies.py`), and all five are processes that get SIGKILL. Now and then the
killed learner comes back with an older copy of its store, or with a restored backup. The actors'
journals are compared with the store at the end (`chaos_audit.py`).

`--kills` counts those of actors and learner; there is one of a proxy for four of them. With
`--folder` an interrupted run goes on where it was, and `--audit` only compares what is there. The
seed settles what is decided, not when it meets what: a run can be repeated in kind only. The last
line is JSON; exit code 1 if a row is lost, doubled, changed or nobody's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kit"))

from chaos_audit import Audit, audit_folder
from chaos_ends import LINE, SETTLE_S
from made_link import SPEC

from handrail.process import SUPERVISOR_ENV
from handrail.storage.database import quarantine
from learner.store.admin.backup import backup, restore

HERE = Path(__file__).resolve().parent
ACTORS = {"arm-bytes": "bytes", "arm-messages": "messages"}  # and the proxy that each sends through
SAVE, REPLACE = 0, 3  # [-], of four kills of the learner: a backup before it; the backup after it
PATIENCE_S = 15.0  # [s], the next kill comes even if no row is made


class Plan(NamedTuple):
    """What is to be done; the same again for a run that goes on."""

    transitions: int
    kills: int
    seed: int
    rate: float


def victims(plan: Plan) -> list[str]:
    """Return who is killed, in order: actors and learner half each, and proxies on top."""
    rng = random.Random(f"{plan.seed} victims")
    ends = ["learner" if i % 2 else list(ACTORS)[i // 2 % 2] for i in range(plan.kills)]
    proxies = [list(ACTORS.values())[i % 2] for i in range(-(-plan.kills // 4))]
    return rng.sample(ends + proxies, len(ends) + len(proxies))


def free_address() -> str:
    """Return an address of the loopback network that nobody uses.

    It is not 127.0.0.1: from there a port that is tried while its owner is dead may be given to the
    very connection that tries it, and the owner finds it in use.
    """
    host = f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"


class Cast:
    """The processes of a run."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._log = (folder / "processes.log").open("ab")
        self._starts: Counter[str] = Counter()
        fronts = {proxy: free_address() for proxy in ACTORS.values()}
        behind = free_address()
        self._commands: dict[str, list[str]] = {"learner": ["chaos_ends.py", "learner"]}
        self._commands["learner"] += [str(folder), behind]
        for name, proxy in ACTORS.items():
            ends = ["chaos_ends.py", name, str(folder), fronts[proxy], str(plan.rate)]
            self._commands[name] = ends
            self._commands[proxy] = ["chaos_proxies.py", proxy, str(folder), fronts[proxy], behind]
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str) -> None:
        """Start a process that does not run."""
        self._starts[role] += 1
        script, *arguments = self._commands[role]
        if role in ACTORS.values():
            arguments.append(f"{self._plan.seed} {role} {time.time_ns()}")
        command = [sys.executable, "-W", "error", str(HERE / script), *arguments]
        self.running[role] = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, SUPERVISOR_ENV: str(os.getpid())},  # it dies with us
        )

    def start_all(self) -> None:
        """Start every process."""
        for role in self._commands:
            self.start(role)

    def kill(self, role: str) -> None:
        """SIGKILL one."""
        self.running[role].kill()
        self.running.pop(role).wait()

    def check(self) -> None:
        """Raise if a process ended that nobody killed."""
        for role, process in self.running.items():
            if process.poll() not in (None, 0):
                text = (self._folder / "processes.log").read_text(errors="replace")
                raise RuntimeError(f"{role} ended with {process.returncode}:\n{text[-3000:]}")

    def finish(self, role: str) -> None:
        """Wait for a process to end by itself.

        Raises:
            RuntimeError: It failed, or did not end in time.
        """
        deadline = time.monotonic() + SETTLE_S + 30.0
        while self.running[role].poll() is None and time.monotonic() < deadline:
            self.check()
            time.sleep(0.05)
        self.check()
        if self.running.pop(role).poll() is None:
            raise RuntimeError(f"{role} did not end")

    def close(self) -> None:
        """Kill whatever runs."""
        for role in list(self.running):
            self.kill(role)
        self._log.close()


def produced(folder: Path) -> int:
    """Return how many rows the journals have."""
    return sum(path.stat().st_size for path in folder.glob("*.journal")) // LINE


def swap_store(folder: Path, number: int) -> str:
    """Put the saved store in the killed learner's place; return how it was done."""
    path, saved = folder / "store.db", folder / "saved.db"
    if number % 2:
        kept = restore(path, SPEC, saved, force=True).kept
        how = "restored"
    else:  # as a snapshot of the disk would: same identity, same epoch
        kept = quarantine(path, "newer")
        shutil.copyfile(saved, path)
        how = "older"
    for part in folder.glob(f"{kept.name}*" if kept else ""):
        part.unlink()
    return how


def run(folder: Path, plan: Plan, say: bool = True) -> dict[str, Any]:
    """Do what the plan says, or what is left of it, and audit; return the summary."""
    begun = time.monotonic()
    todo = victims(plan)
    done = len(lines(folder, "events.log"))
    rng = random.Random(f"{plan.seed} {done}")
    stop = folder / "stop"
    stop.unlink(missing_ok=True)
    cast = Cast(folder, plan)
    try:
        with (folder / "events.log").open("a") as log:
            cast.start_all()
            while not (folder / "learner.counts").exists():  # then there is a store
                cast.check()
                time.sleep(0.05)
            for number in range(done, len(todo)):
                due = plan.transitions * (number + rng.random()) / len(todo)
                patience = time.monotonic() + PATIENCE_S
                while produced(folder) < due and time.monotonic() < patience:
                    cast.check()
                    time.sleep(0.02)
                time.sleep(rng.uniform(0.0, 0.5))
                print(strike(folder, cast, todo, number), file=log, flush=True)
                if say and number % 10 == 9:
                    print(f"{number + 1} of {len(todo)} kills, {produced(folder)} rows", flush=True)
            while produced(folder) < plan.transitions:
                cast.check()
                time.sleep(0.05)
        stop.touch()
        for name in ACTORS:
            cast.finish(name)
        for name in ACTORS:  # whoever starts anew learns what the store lacks
            cast.start(name)
        for name in ACTORS:
            cast.finish(name)
        cast.running["learner"].terminate()
        cast.finish("learner")
    finally:
        cast.close()
    return {
        **report(folder, audit_folder(folder)),
        "wall_s": round(time.monotonic() - begun, 1),
        "seed": plan.seed,
    }


def strike(folder: Path, cast: Cast, todo: list[str], number: int) -> str:
    """Kill the one whose turn it is and start it again; return the line for the log."""
    role = todo[number]
    turn = todo[:number].count("learner")
    how = ""
    if role == "learner" and turn % 4 == SAVE:
        backup(folder / "store.db", SPEC, folder / "saved.db", force=True)
    cast.check()
    cast.kill(role)
    if role == "learner" and turn % 4 == REPLACE:
        how = swap_store(folder, turn // 4)
    cast.start(role)
    return f"{role} {how}".strip()


def lines(folder: Path, pattern: str) -> list[str]:
    """Return the lines of all files of a folder that match."""
    return [line for path in folder.glob(pattern) for line in path.read_text().splitlines()]


def report(folder: Path, found: Audit) -> dict[str, Any]:
    """Return the summary of a run's folder."""
    events = Counter(" ".join(lines(folder, "events.log")).split())
    tally = Counter(lines(folder, "*.tally"))
    both = {name: tally[f"{name} up"] + tally[f"{name} down"] for name in sorted(_HARMS)}
    counts = [line.split() for line in lines(folder, "learner.counts")]
    refused, missing, rate_limited = (sum(int(line[i]) for line in counts) for i in range(3))
    return {
        **found._asdict(),
        "faults": found.faults[:20],
        "kills": {
            "actor": sum(events[name] for name in ACTORS),
            "learner": events["learner"],
            "proxy": sum(events[name] for name in ACTORS.values()),
        },
        "connections": tally["connection"],  # through the proxy of bytes
        "cuts": tally["cut"],
        "half_open": tally["deaf"] + tally["orphan"],
        "slowed": tally["delay"] + tally["stall"] + tally["drip"],
        "duplicates": both["duplicate"],
        "reorderings": both["reorder"],
        "truncations": both["truncate"] + tally["torn"],
        "flips": both["flip"] + tally["bitflip"],
        "dropped": both["drop"],
        "stores_replaced": events["older"] + events["restored"],
        "refilled": sum(map(int, lines(folder, "*.refilled"))),
        "refusals_borne": len(lines(folder, "*.refused")),
        "refused_by_learner": refused,
        "given_up_by_learner": missing,
        "rate_limited": rate_limited,
    }


_HARMS = ("duplicate", "reorder", "truncate", "flip", "drop")


def verdict(summary: dict[str, Any]) -> int:
    """Return the exit code."""
    wrong = ("lost", "doubled", "changed", "foreign", "given_up_by_learner")
    return int(any(summary[name] for name in wrong) or bool(summary["faults"]))


def main() -> int:
    """Run, or audit only; return 1 if the store is not what was made."""
    parser = argparse.ArgumentParser(description="Kill and disturb; then count the rows.")
    parser.add_argument("--transitions", type=int, default=100_000, help="rows made, at least")
    parser.add_argument("--kills", type=int, default=200, help="of actors and learner")
    parser.add_argument("--rate", type=float, default=400.0, help="rows that an actor makes [1/s]")
    parser.add_argument("--seed", type=int, help="of what is decided; random if not given")
    parser.add_argument("--folder", type=Path, help="kept, and gone on with if it is there")
    parser.add_argument("--audit", type=Path, metavar="FOLDER", help="compare only")
    options = parser.parse_args()
    if options.audit:
        summary = report(options.audit, audit_folder(options.audit))
        print(json.dumps(summary))
        return verdict(summary)
    with contextlib.ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        seed = secrets.randbits(32) if options.seed is None else options.seed
        plan = Plan(options.transitions, options.kills, seed, options.rate)
        written = folder / "plan.json"
        if written.exists():
            plan = Plan(**json.loads(written.read_text()))
        written.write_text(json.dumps(plan._asdict()))
        print(f"{plan} in {folder}, pid {os.getpid()}", flush=True)
        summary = run(folder, plan)
        print(json.dumps(summary))
        return verdict(summary)


if __name__ == "__main__":
    sys.exit(main())
