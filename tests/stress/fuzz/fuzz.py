"""Fuzz everything that reads bytes from a network or a disk: `python tests/stress/fuzz/fuzz.py`.

Inputs are valid ones with something wrong (`fuzz_mutate.py`); targets say how they are made and
judged in the modules of `TARGETS`. Found is: any exception but those that the decoder documents, an
accepted input that is not right, a deadline missed, memory over the target's limit, a dead process.
Each is kept as a file that runs again:

    python tests/stress/fuzz/fuzz.py --inputs 1000000 --seed 1 --out fuzz
    python tests/stress/fuzz/fuzz.py --again fuzz/row-0-17.msgpack

What was done is kept in `--out`, by seed and target: an interrupted run goes on where it stopped.
The last line printed is JSON; exit code 1 if something was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kit"))

import fuzz_answers
import fuzz_arrays
import fuzz_database
import fuzz_host
import fuzz_messages
import fuzz_packet
import fuzz_port
import fuzz_recorder
import fuzz_rows
import fuzz_run
import fuzz_tcp
import msgspec
from fuzz_mutate import Parts
from fuzz_target import Garbage, Target

TARGETS: dict[str, type[Target]] = {
    target.name: target
    for module in (
        fuzz_messages,
        fuzz_rows,
        fuzz_packet,
        fuzz_arrays,
        fuzz_run,
        fuzz_host,
        fuzz_recorder,
        fuzz_database,
        fuzz_port,
        fuzz_tcp,
        fuzz_answers,
    )
    for target in module.TARGETS
}
_BATCH_S = 300.0  # [s], after which a batch that never returns ends the process
_WHERE = struct.Struct("<IIi")  # target, batch and input that are under way, for the supervisor
_OURS = 70  # exit code of a worker that failed by itself
_KEPT = 20  # [-], reproducers of one target at most


class Hang(BaseException):
    """An input took more of the processor than its target allows."""


class Tally(msgspec.Struct):
    """What came of one target's inputs so far."""

    batches: int = 0
    inputs: int = 0
    passed_header: int = 0
    accepted: int = 0
    refused: int = 0
    worst_ms: float = 0.0
    peak_rss_growth_mb: float = 0.0
    found: list[dict[str, str]] = []


class Fuzz:
    """The state of one run; `run` does what is missing."""

    def __init__(self, out: Path, seed: int, inputs: int, names: list[str] | None = None) -> None:
        self.out, self.seed = out, seed
        chosen = list(names or TARGETS)
        whole = sum(TARGETS[name].share for name in (TARGETS if names is None else names))
        self.wanted = {name: -(-inputs * TARGETS[name].share // whole) for name in chosen}
        out.mkdir(parents=True, exist_ok=True)
        self._state = out / f"seed-{seed}.json"
        self.tallies = {name: Tally() for name in chosen}
        if self._state.exists():
            kept = msgspec.json.decode(self._state.read_bytes(), type=dict[str, Tally])
            self.tallies = {name: kept.get(name, Tally()) for name in chosen}
            self._others = {name: tally for name, tally in kept.items() if name not in chosen}
        else:
            self._others = {}
        with (out / "under-way").open("a+b") as file:
            file.truncate(_WHERE.size)
            self._where = mmap.mmap(file.fileno(), _WHERE.size)

    def run(self, say: Any = print) -> dict[str, Any]:
        """Do what is missing and return what came of it, by target."""
        previous = signal.signal(signal.SIGPROF, _too_long)
        try:
            for name, tally in self.tallies.items():
                if tally.inputs < self.wanted[name]:
                    self._fuzz(name, tally)
                    say(f"{name}: {json.dumps(shown(tally))}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.signal(signal.SIGPROF, previous)
        return {name: shown(tally) for name, tally in self.tallies.items()}

    def _fuzz(self, name: str, tally: Tally) -> None:
        with tempfile.TemporaryDirectory(prefix="handrail-fuzz-", dir=_memory()) as scratch:
            target = TARGETS[name](Path(scratch))
            try:
                for parts in target.originals:  # also what is imported and made at first use
                    value = target.take(parts)
                    if value is not None:
                        target.verify(parts, value)
                target.settle()
                begin = _reset_peak()
                while tally.inputs < self.wanted[name]:
                    self._batch(name, target, tally)
                    grown = target.peak_growth()
                    grown = _peak() - begin if grown is None else grown
                    tally.peak_rss_growth_mb = max(tally.peak_rss_growth_mb, round(grown / 1e6, 2))
                    if grown > target.growth_bytes:
                        self._found(name, tally, "growth", f"memory grew by {grown} B", [])
                        begin = _reset_peak()
                    self._save()
            finally:
                target.close()

    def _batch(self, name: str, target: Target, tally: Tally) -> None:
        number = tally.batches
        faulthandler.dump_traceback_later(_BATCH_S, exit=True)
        try:
            inputs = self._inputs(name, number, target, tally.inputs)
            for at, parts in enumerate(inputs):
                self._where[:] = _WHERE.pack(list(TARGETS).index(name), number, at)
                self._one(name, target, tally, parts)
            self._where[:] = _WHERE.pack(list(TARGETS).index(name), number, -1)
            try:
                for key, count in target.settle().items():
                    setattr(tally, key, getattr(tally, key) + count)
            except Exception:
                self._found(name, tally, "crash", traceback.format_exc(limit=-3), inputs)
        finally:
            faulthandler.cancel_dump_traceback_later()
        tally.batches = number + 1

    def _inputs(self, name: str, batch: int, target: Target, done: int) -> list[Parts]:
        rng = Random(f"{self.seed} {name} {batch}")
        count = min(target.batch, self.wanted[name] - done)
        return [target.make(rng) for _ in range(count)]

    def _one(self, name: str, target: Target, tally: Tally, parts: Parts) -> None:
        tally.inputs += 1
        tally.passed_header += target.passed(parts)
        kind, words, value = "", "", None
        begun = time.perf_counter()
        signal.setitimer(signal.ITIMER_PROF, target.deadline_s)
        try:
            value = target.take(parts)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            if value is not None:
                target.verify(parts, value)
                tally.accepted += 1
        except target.refusals:
            tally.refused += 1
        except Hang:
            kind, words = (
                "hang",
                f"more than {target.deadline_s} s\n{traceback.format_exc(limit=-3)}",
            )
        except Garbage as error:
            kind, words = "garbage", str(error)
        except Exception:
            kind, words = "crash", traceback.format_exc(limit=-3)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        tally.worst_ms = max(tally.worst_ms, round(1e3 * (time.perf_counter() - begun), 2))
        if kind:
            self._found(name, tally, kind, words, [parts])

    def _found(self, name: str, tally: Tally, kind: str, words: str, inputs: list[Parts]) -> None:
        number = len(tally.found)
        mark = _mark(kind, words)
        if number >= _KEPT or [_mark(f["kind"], f["why"]) for f in tally.found].count(mark) >= 2:
            return  # the same again
        slug = re.sub(r"\W+", "-", name)
        path = self.out / f"{slug}-{self.seed}-{number}.msgpack"
        path.write_bytes(msgspec.msgpack.encode([name, inputs]))
        tally.found.append({"kind": kind, "why": words, "file": str(path)})

    def died(self, code: int) -> None:
        """Note that the process died at the input that was under way, and leave out its batch."""
        index, batch, at = _WHERE.unpack(self._where[:])
        name = list(TARGETS)[index]
        tally = self.tallies[name]
        with tempfile.TemporaryDirectory(dir=_memory()) as scratch:
            target = TARGETS[name](Path(scratch))
            inputs = self._inputs(name, batch, target, tally.inputs)
            target.close()
        blamed = inputs if at < 0 else inputs[at : at + 1]
        self._found(name, tally, "crash", f"the process ended with code {code}", blamed)
        tally.batches += 1
        tally.inputs += len(inputs)
        self._save()

    def _save(self) -> None:
        temporary = self._state.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(self._others | self.tallies))
        os.replace(temporary, self._state)


def _mark(kind: str, words: str) -> tuple[str, str, str]:
    """Return what two findings of one cause have in common."""
    places = re.findall(r'File "([^"]*", line \d+)', words)
    return kind, places[-1] if places else "", re.sub(r"\d+", "", words)[:12]


def shown(tally: Tally) -> dict[str, Any]:
    """Return a tally as it is printed."""
    table = msgspec.to_builtins(tally)
    found = table.pop("found")
    del table["batches"]
    share = round(tally.passed_header / max(1, tally.inputs), 3)
    return table | {"header_share": share, "found": found}


def again(path: Path) -> None:
    """Run a reproducer; what was found is raised."""
    name, inputs = msgspec.msgpack.decode(path.read_bytes())
    with tempfile.TemporaryDirectory(prefix="handrail-fuzz-", dir=_memory()) as scratch:
        target = TARGETS[name](Path(scratch))
        try:
            for parts in map(tuple, inputs):
                try:
                    value = target.take(parts)
                except target.refusals as error:
                    print(f"refused: {error!r}"[:300])
                else:
                    print(f"taken: {value!r}"[:300])
                    if value is not None:
                        target.verify(parts, value)
            print(target.settle())
        finally:
            target.close()


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _too_long(*_: object) -> None:
    raise Hang


def _reset_peak() -> int:
    """Begin a new peak of this process's memory; return what it uses now [B]."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak(pid: str | int = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def main() -> int:
    """Supervise a worker, which an input may kill; return 1 if something was found."""
    parser = argparse.ArgumentParser(description="Fuzz every decoder.")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), metavar="TARGET")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--again", type=Path, help="run one reproducer")
    parser.add_argument("--list", action="store_true", help="only say what the targets are")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        for name, target in TARGETS.items():
            print(f"{name:18} {target.share:5}  {str(target.__doc__).splitlines()[0]}")
        return 0
    if options.again:
        again(options.again)
        return 0
    if options.worker:
        warnings.simplefilter("error")
        try:
            Fuzz(options.out, options.seed, options.inputs, options.only).run(
                lambda text: print(text, flush=True)
            )
        except Exception:
            traceback.print_exc()
            return _OURS
        return 0
    begun = time.monotonic()
    while code := subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker"]).returncode:
        if code == _OURS:
            return code
        Fuzz(options.out, options.seed, options.inputs, options.only).died(code)
    tallies = Fuzz(options.out, options.seed, options.inputs, options.only).tallies
    found = sum(len(tally.found) for tally in tallies.values())
    inputs = sum(tally.inputs for tally in tallies.values())
    passed = sum(tally.passed_header for tally in tallies.values())
    summary = {
        "seed": options.seed,
        "inputs": inputs,
        "passed_header": passed,
        "found": found,
        "seconds": round(time.monotonic() - begun, 1),
        "targets": {name: shown(tally) for name, tally in tallies.items()},
    }
    print(json.dumps(summary))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
