"""`handrail data …`: a run's rows, for who has to answer for them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from actor.cli.options import say

if TYPE_CHECKING:
    from handrail.run_folder import Run
    from handrail.spec import EnvSpec
    from learner.store.admin.prune import EpisodeFilter

EPILOG = """\
ls, show, verify, export, backup and label work beside a running learner; repair, prune and restore
need the run to be stopped. Results are one line of JSON at the end. See docs/data.md."""
WRONG = 1  # exit code of `verify` where something is wrong
_AGE = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # [s]


def main(argv: list[str]) -> int:
    """Carry out one of the commands; return the exit code."""
    options = _parser().parse_args(argv)
    from handrail.run_folder import open_run
    from handrail.spec import load_spec

    run = open_run(options.run)
    return globals()[f"_{options.command}"](options, run, load_spec(run.spec))


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="handrail data",
        description="List, check, repair, prune, export, back up and label a run's rows.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("run", type=Path, help="run folder")
        return command

    add("ls", "list the episodes")
    show = add("show", "show the rows of an episode")
    show.add_argument("episode", type=int)
    show.add_argument("--actor", default="", help="whose, where several have that number")
    add("verify", "check every row's hash and every session's numbers")
    add("repair", "salvage what is whole into a new store; the old file is kept")
    prune = add("prune", "take episodes out; says what would go, until --yes")
    prune.add_argument("--older-than", metavar="AGE", help="arrived before, such as 90m, 12h, 30d")
    prune.add_argument("--source", action="append", choices=("demo", "online", "eval"), default=[])
    prune.add_argument("--episodes", metavar="LIST", default="", help="such as 3,10-19")
    prune.add_argument("--actor", action="append", default=[])
    prune.add_argument("--yes", action="store_true", help="do it")
    prune.add_argument("--shrink", action="store_true", help="also make the file smaller")
    export = add("export", "write every episode as .npz")
    export.add_argument("folder", type=Path, help="a new folder")
    backup = add("backup", "copy the store, also while the learner writes it")
    backup.add_argument("file", type=Path)
    backup.add_argument("--force", action="store_true", help="write over an existing file")
    restore = add("restore", "put a backup in the store's place")
    restore.add_argument("file", type=Path)
    restore.add_argument("--force", action="store_true", help="although there is a store")
    label = add("label", "say late what an episode came to")
    label.add_argument("episode", type=int)
    label.add_argument("verdict", choices=("success", "failure", "abort"))
    label.add_argument("--actor", default="", help="whose, where several have that number")
    label.add_argument("--worth", type=float, default=1.0, help="reward of a success [1]")
    return top


def _ls(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from handrail.transition import Source
    from learner.store.admin.episodes import episodes
    from learner.store.file import LABEL
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        found = episodes(store)
        say(f"{'actor':<12}{'source':<8}{'episode':>8}{'steps':>7}{'human':>7}  outcome")
        for e in found:
            source = Source(e.source).name.lower()
            say(f"{e.actor:<12}{source:<8}{e.number:>8}{e.steps:>7}{e.intervened:>7}  {e.outcome}")
        about = {"episodes": len(found), "rows": len(store), "labels": store.count(LABEL)}
        about |= {source.name.lower(): store.count(source) for source in Source}
        about |= {"uuid": store.uuid, "epoch": store.epoch}
        about["bytes"] = run.store.stat().st_size
    say(json.dumps(about))
    return 0


def _show(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.episodes import describe, episodes
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        chosen = [
            e
            for e in episodes(store)
            if e.number == options.episode and options.actor in ("", e.actor)
        ]
        for episode in chosen:
            say(f"{'row':>9}{'t':>6}{'reward':>9}  flags")
            for arrival in store.labelled_rows(episode.first - 1):
                row = arrival.row
                if arrival.cursor > episode.last:
                    break
                if (arrival.session, row.episode) != (episode.session, episode.number):
                    continue
                names = ("end", "terminated", "truncated", "success", "intervened", "violation")
                flags = " ".join(name for name in names if getattr(row, name))
                say(f"{arrival.cursor:>9}{row.t:>6}{row.reward:>9.3f}  {flags}")
            say(json.dumps(describe(episode)))
    if not chosen:
        from learner.store.admin.label import actor_of

        actor_of([], options.episode, options.actor)
    return 0


def _verify(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.verify import verify

    found = verify(run.store, spec)
    for fault in found.faults:
        say(fault)
    about = {"whole": not found.faults, **found._asdict(), "faults": len(found.faults)}
    say(json.dumps(about))
    return WRONG if found.faults else 0


def _repair(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.repair import repair

    done = repair(run.store, spec)
    for fault in done.faults:
        say(fault)
    say(f"the damaged file is kept: {done.kept}")
    say(json.dumps({"rows": done.rows, "lost": done.lost, "kept": str(done.kept)}))
    return 0


def _prune(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from handrail.errors import ConfigError
    from learner.store.admin.prune import plan, prune

    choice = _choice(options)
    if not any(choice):
        raise ConfigError("say what is to go: --older-than, --source, --episodes or --actor")
    if options.yes:
        gone = prune(run.store, spec, choice, options.shrink)
    else:
        gone = plan(run.store, spec, choice)
    for e in gone.episodes:
        say(f"{e.actor} episode {e.number}: {len(e.seqs)} rows, {e.outcome}")
    if not options.yes:
        say("nothing was taken out; --yes does it")
    say(json.dumps({"episodes": len(gone.episodes), "rows": gone.rows, "done": options.yes}))
    return 0


def _choice(options: argparse.Namespace) -> EpisodeFilter:
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


def _export(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.export import export
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        count = export(store, options.folder)
    say(json.dumps({"episodes": count, "folder": str(options.folder)}))
    return 0


def _backup(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.backup import backup

    rows = backup(run.store, spec, options.file, options.force)
    say(json.dumps({"rows": rows, "file": str(options.file)}))
    return 0


def _restore(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from learner.store.admin.backup import restore

    done = restore(run.store, spec, options.file, options.force, run.spool)
    if done.kept is not None:
        say(f"the store that was there is kept: {done.kept}")
    kept = None if done.kept is None else str(done.kept)
    say(json.dumps({"rows": done.rows, "epoch": done.epoch, "kept": kept}))
    return 0


def _label(options: argparse.Namespace, run: Run, spec: EnvSpec) -> int:
    from handrail.episode_label import EpisodeLabel, Outcome
    from learner.store.admin.episodes import episodes
    from learner.store.admin.label import actor_of, deliver_label
    from learner.store.store import Store

    with Store(run.store, spec, readonly=True) as store:
        actor = actor_of(episodes(store), options.episode, options.actor)
    verdict = Outcome[options.verdict.upper()]
    where = deliver_label(run, spec, EpisodeLabel(actor, options.episode, verdict, options.worth))
    if where == "waiting":
        say(f"the learner doesn't answer; the label waits in {run.labels} until it starts again")
    say(json.dumps({"actor": actor, "episode": options.episode, "label": options.verdict,
                    "state": where}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
