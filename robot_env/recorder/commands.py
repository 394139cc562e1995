"""`handrail recorder`: look into a run's flight recorder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from handrail.command_line import RunFolder, parse
from handrail.errors import StorageError
from handrail.run_folder import Run, open_run

if TYPE_CHECKING:
    from robot_env.recorder.recording import Recording

DIFFERENT = 1  # exit code of a replay that is not the same
_KEEP_ALL = 1_000_000


ABOUT = "Look into a run's flight recorder: the last minute of every signal at 1 kHz."
What = Annotated[
    Positional[Path], arg(metavar="WHAT", help="Recording, or run folder for its newest one.")
]


@dataclass(frozen=True)
class Dump:
    """Write the ring of a run, live or dead, as MCAP."""

    run: RunFolder
    why: str = "asked"
    """Part of the file's name."""


@dataclass(frozen=True)
class Plot:
    """Draw a recording as PNG."""

    what: What
    out: Annotated[Path | None, arg(metavar="PNG", help="Default: beside the recording.")] = None
    last: Annotated[float | None, arg(metavar="SECONDS", help="Draw only the end.")] = None


@dataclass(frozen=True)
class Replay:
    """Feed a recording through the chain; exit code 1 if a torque differs."""

    what: What


@dataclass(frozen=True)
class Ls:
    """List a run's ring and recordings."""

    run: RunFolder


def main(argv: list[str]) -> int:
    """Dump, plot, replay or list; return the exit code."""
    options = parse(Dump | Plot | Replay | Ls, "recorder", argv, ABOUT)
    return {Dump: _dump, Plot: _plot, Replay: _replay, Ls: _list}[type(options)](options)


def _dump(options: Dump) -> int:
    from robot_env.recorder.mcap_writer import save
    from robot_env.recorder.recorder import recordings
    from robot_env.recorder.ring import NAME
    from robot_env.recorder.ring_recovery import read_ring

    run = open_run(options.run)
    contents = read_ring(run.folder / NAME)
    path = save(contents, recordings(run.folder), options.why, _KEEP_ALL)
    if contents.torn:
        print(f"{contents.torn} records were not whole and are left out", file=sys.stderr)
    print(path)
    return 0


def _plot(options: Plot) -> int:
    from robot_env.recorder.plot import write_plot
    from robot_env.recorder.recording import Recording

    path = _recording(options.what)
    out = options.out or path.with_suffix(".png")
    write_plot(Recording(path), out, options.last)
    print(out)
    return 0


def _replay(options: Replay) -> int:
    from controllers.kernel import chain_digest
    from robot_env.recorder.recording import Recording
    from robot_env.recorder.replay import replay

    path = _recording(options.what)
    recording = Recording(path)
    warnings = []
    if recording.about["code"] != chain_digest():
        warnings.append(
            f"the chain's code is not what it was: recorded by {recording.about['code']}, "
            f"this version is {chain_digest()}"
        )
    control = _control(path)
    if control not in (None, recording.about["control"]):
        warnings.append(
            f"the run's table [control] is not what it was: recorded with "
            f"{recording.about['control']}, config.toml now gives {control}; "
            f"the replay uses the recorded one"
        )
    verdict = replay(recording)
    print(f"{path}: {verdict.ticks} ticks replayed, {verdict.starts} resets, {verdict.gaps} gaps")
    for warning in warnings:
        print(f"DIFFERENT: {warning}")
    if verdict.first is not None:
        first = verdict.first
        print(f"DIFFERENT: {verdict.different} ticks have other torques; the first is tick")
        print(f"  {first.tick} since reset, record {first.index}, {first.time:.6f} s monotonic:")
        for joint, (was, now) in enumerate(zip(first.recorded, first.replayed, strict=True), 1):
            mark = "" if was == now else f"   off by {now - was:.3g} N m"
            print(f"  joint {joint}: recorded {was!r}, replayed {now!r}{mark}")
        print(f"  of the state differ: {', '.join(first.states) or 'nothing'}")
    elif verdict.ticks:
        print("every torque is the same, bit for bit")
    else:
        print("DIFFERENT: there was no tick to replay")
    return DIFFERENT if warnings or verdict.first is not None or not verdict.ticks else 0


def _list(options: Ls) -> int:
    from robot_env.recorder.recorder import recordings
    from robot_env.recorder.recording import Recording
    from robot_env.recorder.ring import NAME
    from robot_env.recorder.ring_recovery import left_by_crash, read_ring

    run = open_run(options.run)
    ring = run.folder / NAME
    if ring.is_file():
        contents = read_ring(ring)
        alive = left_by_crash(ring) and _alive(contents.pid)
        state = "live" if alive else "left by a killed host" if left_by_crash(ring) else "ended"
        seconds = len(contents.words) * float(contents.about["dt"])
        print(f"{NAME}  {state}, process {contents.pid}, {seconds:.1f} s, {_size(ring)}")
    else:
        print(f"no {NAME}: nothing was recorded, or only in lockstep")
    for path in sorted(recordings(run.folder).glob("*.mcap")):
        print(f"{path.name}  {_about(Recording(path))}, {_size(path)}")
    return 0


def _about(recording: Recording) -> str:
    from controllers.robot import Fault, Mode

    seconds = len(recording) * float(recording.about["dt"])
    if not len(recording):
        return f"{recording.why}: no tick"
    mode, fault = Mode(int(recording["mode"][-1])).name, Fault(int(recording["fault"][-1])).name
    return f"{recording.why}: {seconds:.1f} s, ends in {mode}, fault {fault}"


def _recording(what: Path) -> Path:
    """Return the recording that is meant: a file, or the newest one of a run."""
    from robot_env.recorder.recorder import recordings

    if what.suffix == ".mcap":
        return what
    run = open_run(what)
    found = sorted(recordings(run.folder).glob("*.mcap"))
    if not found:
        raise StorageError(f"{run.folder} has no recording; `handrail recorder dump` makes one")
    return found[-1]


def _control(recording: Path) -> str | None:
    """Return the digest of the [control] table of a recording's run, None without a run."""
    from controllers.config import ControlConfig
    from handrail.config import digest, from_dict, to_dict
    from handrail.renamed_keys import to_original

    folder = recording.resolve().parent.parent
    if not (folder / "run.json").is_file():
        return None
    run: Run = open_run(folder)
    control = from_dict(ControlConfig, run.config_tables().get("control", {}), "control")
    return digest(to_original("control", to_dict(control)))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
