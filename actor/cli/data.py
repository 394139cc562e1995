"""`handrail data …`: a run's rows, for who has to answer for them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from handrail.command_line import Json, RunFolder, conclude, parse

if TYPE_CHECKING:
    from handrail.run_folder import Run
    from handrail.spec import EnvSpec
    from learner.store.admin.prune import EpisodeFilter

ABOUT = """\
List, check, repair, prune, export, back up and label a run's rows. ls, show, verify, export, backup
and label work beside a running learner; repair, prune and restore need the run to be stopped.
See docs/data.md."""
WRONG = 1  # exit code of `verify` where something is wrong
_AGE = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # [s]
Number = Annotated[Positional[int], arg(metavar="EPISODE", help="Number of the episode.")]
Actor = Annotated[str, arg(metavar="NAME", help="Whose, where several have that number.")]
File = Annotated[Positional[Path], arg(metavar="FILE", help="The backup.")]


@dataclass(frozen=True)
class Ls:
    """List the episodes."""

    run: RunFolder
    json: Json = False


@dataclass(frozen=True)
class Show:
    """Show the rows of an episode."""

    run: RunFolder
    episode: Number
    actor: Actor = ""
    json: Json = False


@dataclass(frozen=True)
class Verify:
    """Check every row's hash and every session's numbers; exit code 1 if something is wrong."""

    run: RunFolder
    json: Json = False


@dataclass(frozen=True)
class Repair:
    """Salvage what is whole into a new store; the old file is kept."""

    run: RunFolder
    json: Json = False


@dataclass(frozen=True)
class Prune:
    """Take episodes out; says what would go, until --yes."""

    run: RunFolder
    older_than: Annotated[str | None, arg(metavar="AGE")] = None
    """Arrived before, such as 90m, 12h, 30d."""
    source: tyro.conf.UseAppendAction[tuple[Literal["demo", "online", "eval"], ...]] = ()
    """Of this kind; may be repeated."""
    episodes: Annotated[str, arg(metavar="LIST")] = ""
    """Such as 3,10-19."""
    actor: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Of this actor; may be repeated."""
    yes: bool = False
    """Do it."""
    shrink: bool = False
    """Also make the file smaller."""
    json: Json = False


@dataclass(frozen=True)
class Export:
    """Write every episode as .npz."""

    run: RunFolder
    folder: Annotated[Positional[Path], arg(metavar="FOLDER", help="A new folder.")]
    json: Json = False


@dataclass(frozen=True)
class Backup:
    """Copy the store, also while the learner writes it."""

    run: RunFolder
    file: File
    force: bool = False
    """Write over an existing file."""
    json: Json = False


@dataclass(frozen=True)
class Restore:
    """Put a backup in the store's place."""

    run: RunFolder
    file: File
    force: bool = False
    """Although there is a store."""
    json: Json = False


@dataclass(frozen=True)
class Label:
    """Say late what an episode came to."""

    run: RunFolder
    episode: Number
    verdict: Positional[Literal["success", "failure", "abort"]]
    actor: Actor = ""
    worth: float = 1.0
    """Reward of a success."""
    json: Json = False


COMMANDS = Ls | Show | Verify | Repair | Prune | Export | Backup | Restore | Label


def main(argv: list[str]) -> int:
    """Carry out one of the commands; return the exit code."""
    options = parse(COMMANDS, "data", argv, ABOUT)
    from handrail.run_folder import open_run
    from handrail.spec import load_spec

    run = open_run(options.run)
    work = globals()[f"_{type(options).__name__.lower()}"]
    return work(options, run, load_spec(run.spec))


def _ls(options: Ls, run: Run, spec: EnvSpec) -> int:
    from handrail.transition import Source
    from learner.store.admin.episodes import episodes
    from learner.store.file import LABEL
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        found = episodes(store)
        lines = [f"{'actor':<12}{'source':<8}{'episode':>8}{'steps':>7}{'human':>7}  outcome"]
        for e in found:
            source = Source(e.source).name.lower()
            counts = f"{e.number:>8}{e.steps:>7}{e.intervened:>7}"
            lines.append(f"{e.actor:<12}{source:<8}{counts}  {e.outcome}")
        about = {"episodes": len(found), "rows": len(store), "labels": store.count(LABEL)}
        about |= {source.name.lower(): store.count(source) for source in Source}
        about |= {"uuid": store.uuid, "epoch": store.epoch}
        about["bytes"] = run.store.stat().st_size
    conclude(about, options.json, *lines)
    return 0


def _show(options: Show, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.episodes import describe, episodes
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        chosen = [
            e
            for e in episodes(store)
            if e.number == options.episode and options.actor in ("", e.actor)
        ]
        for episode in chosen:
            lines = [f"{'row':>9}{'t':>6}{'reward':>9}  flags"]
            for arrival in store.labelled_rows(episode.first - 1):
                row = arrival.row
                if arrival.cursor > episode.last:
                    break
                if (arrival.session, row.episode) != (episode.session, episode.number):
                    continue
                names = ("end", "terminated", "truncated", "success", "intervened", "violation")
                flags = " ".join(name for name in names if getattr(row, name))
                lines.append(f"{arrival.cursor:>9}{row.t:>6}{row.reward:>9.3f}  {flags}")
            conclude(describe(episode), options.json, *lines)
    if not chosen:
        from learner.store.admin.label import actor_of

        actor_of([], options.episode, options.actor)
    return 0


def _verify(options: Verify, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.verify import verify

    found = verify(run.store, spec)
    about = {"whole": not found.faults, **found._asdict(), "faults": len(found.faults)}
    conclude(about, options.json, *found.faults)
    return WRONG if found.faults else 0


def _repair(options: Repair, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.repair import repair

    done = repair(run.store, spec)
    about = {"rows": done.rows, "lost": done.lost, "kept": str(done.kept)}
    conclude(about, options.json, *done.faults, f"the damaged file is kept: {done.kept}")
    return 0


def _prune(options: Prune, run: Run, spec: EnvSpec) -> int:
    from handrail.errors import ConfigError
    from learner.store.admin.prune import plan, prune

    choice = _choice(options)
    if not any(choice):
        raise ConfigError("say what is to go: --older-than, --source, --episodes or --actor")
    if options.yes:
        gone = prune(run.store, spec, choice, options.shrink)
    else:
        gone = plan(run.store, spec, choice)
    lines = [
        f"{e.actor} episode {e.number}: {len(e.seqs)} rows, {e.outcome}" for e in gone.episodes
    ]
    if not options.yes:
        lines.append("nothing was taken out; --yes does it")
    about = {"episodes": len(gone.episodes), "rows": gone.rows, "done": options.yes}
    conclude(about, options.json, *lines)
    return 0


def _choice(options: Prune) -> EpisodeFilter:
    from handrail.errors import ConfigError
    from handrail.transition import Source
    from learner.store.admin.prune import EpisodeFilter

    age = 0.0
    if options.older_than is not None:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", options.older_than)
        if found is None:
            raise ConfigError(f"--older-than is such as 90m, 12h or 30d, got {options.older_than}")
        age = float(found[1]) * _AGE[found[2]]
    numbers: set[int] = set()
    for part in options.episodes.split(",") if options.episodes else ():
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise ConfigError(f"--episodes is such as 3,10-19, got {options.episodes}")
        numbers |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    sources = tuple(Source[name.upper()] for name in options.source)
    return EpisodeFilter(sources, numbers, tuple(options.actor), age)


def _export(options: Export, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.export import export
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        count = export(store, options.folder)
    conclude({"episodes": count, "folder": str(options.folder)}, options.json)
    return 0


def _backup(options: Backup, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.backup import backup

    rows = backup(run.store, spec, options.file, options.force)
    conclude({"rows": rows, "file": str(options.file)}, options.json)
    return 0


def _restore(options: Restore, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.backup import restore

    done = restore(run.store, spec, options.file, options.force, run.spool)
    kept = None if done.kept is None else str(done.kept)
    lines = [] if kept is None else [f"the store that was there is kept: {kept}"]
    conclude({"rows": done.rows, "epoch": done.epoch, "kept": kept}, options.json, *lines)
    return 0


def _label(options: Label, run: Run, spec: EnvSpec) -> int:
    from handrail.episode_label import EpisodeLabel, Outcome
    from learner.store.admin.episodes import episodes
    from learner.store.admin.label import actor_of, deliver_label
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        actor = actor_of(episodes(store), options.episode, options.actor)
    verdict = Outcome[options.verdict.upper()]
    where = deliver_label(run, spec, EpisodeLabel(actor, options.episode, verdict, options.worth))
    late = f"the learner doesn't answer; the label waits in {run.labels} until it starts again"
    about = {"actor": actor, "episode": options.episode, "label": options.verdict, "state": where}
    conclude(about, options.json, *([late] if where == "waiting" else []))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
