"""`handrail risk collect|train|calibrate|plot`: the risk critic, from data to a file that runs."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from actor.config import SEED_RULE, SEEDS, Config
from actor.overrides import split, values_of
from handrail.command_line import Json, conclude, parse
from handrail.config import check, from_dict, to_dict
from learner.risk.config import RiskConfig

Data = Annotated[
    Positional[tuple[Path, ...]], arg(metavar="DATA", help="Run folders or data files.")
]
Out = Annotated[Path | None, arg(metavar="FOLDER", help="Folder of the critic [RUN/risk].")]
EPILOG = """\
Train, calibrate and plot a risk critic. Data are run folders (episodes in risk/data/, flight
recordings) and files of `collect`. Any key of table [risk] can be overridden, for example
--risk.horizon 0.2 --risk.force_limit 40; `collect` takes any key of the config."""


@dataclass(frozen=True)
class Collect:
    """Make data by scripted pushes on a simulated arm."""

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """A run folder, which gets the data, a task, or a .toml file."""
    episodes: int = 200
    seed: int = 0
    """Of the first episode."""
    out: Annotated[Path | None, arg(metavar="FILE", help="File to write.")] = None
    json: Json = False


@dataclass(frozen=True)
class Train:
    """Train a critic, calibrate it on episodes held out, draw it."""

    data: Data
    out: Out = None
    json: Json = False


@dataclass(frozen=True)
class Calibrate:
    """Set the threshold of a critic by episodes that it was not trained on."""

    data: Data
    out: Out = None
    json: Json = False


@dataclass(frozen=True)
class Plot:
    """Judge a critic by episodes that it was not trained on, and draw it."""

    data: Data
    out: Out = None
    json: Json = False


def main(argv: list[str]) -> int:
    """Carry out one of the four; return the exit code."""
    overrides, rest = split(Config, argv)
    options = parse(Collect | Train | Calibrate | Plot, "risk", rest, EPILOG)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("jax").setLevel(logging.WARNING)
    if isinstance(options, Collect):
        return _collect(options, overrides)
    return _make(options, overrides)


def _collect(options: Collect, rest: list[str]) -> int:
    from actor.cli.risk.episodes import collect, data_folder
    from actor.cli.run_folders import open_configured_run
    from actor.config import load_config
    from handrail.errors import ConfigError
    from learner.risk.episodes import save_episodes

    out = options.out
    check(options.episodes >= 1, "--episodes", options.episodes, "1 or more")
    last = options.seed + options.episodes
    check(options.seed >= 0 and last <= SEEDS, "--seed", options.seed, f"{SEED_RULE}, to the last")
    if Path(options.task).is_dir():
        run, config = open_configured_run(Path(options.task))
        if rest:
            raise ConfigError(f"a run has its config already; {' '.join(rest)} can't override it")
        out = out or data_folder(run) / f"pushes-{options.seed:06d}.safetensors"
    else:
        config = load_config(options.task, rest)
    if out is None:
        raise ConfigError("say where the data go: --out FILE")
    episodes = collect(config, options.episodes, options.seed)
    save_episodes(out, episodes, {"task": config.task.name, "seed": options.seed})
    bad = sum(episode.violates for episode in episodes)
    seconds = round(sum(episode.seconds for episode in episodes), 3)
    conclude(
        {"episodes": len(episodes), "violating": bad, "seconds": seconds},
        options.json,
        f"data: {out}",
    )
    return 0


def _make(options: Train | Calibrate | Plot, rest: list[str]) -> int:
    from actor.cli.risk import pipeline
    from actor.cli.risk.episodes import config_of, read_sources

    first: Path = options.data[0]
    out: Path = options.out or (first / "risk" if first.is_dir() else first.parent)
    if isinstance(options, Train):
        run_config = config_of(first)
        config = _override(run_config.risk if run_config else RiskConfig(), rest)
        results = pipeline.train(read_sources(list(options.data), config), config, out)
    else:
        critic, about, config = pipeline.load(out)
        config = _override(config, rest)
        work = pipeline.recalibrate if isinstance(options, Calibrate) else pipeline.reevaluate
        results = work(read_sources(list(options.data), config), config, out, critic, about)
    files = f"critic: {out / 'critic.safetensors'}", f"picture: {out / 'risk.png'}"
    conclude(results, options.json, *files)
    return 0


def _override(config: RiskConfig, words: list[str]) -> RiskConfig:
    """Return the config with options like `--risk.horizon 0.2` applied."""
    values = values_of(Config, words)
    for key in values:
        check(key.startswith("risk."), "an override", f"--{key}", "of table [risk]")
    changed = {key.removeprefix("risk."): value for key, value in values.items()}
    plain = {
        key: value for key, value in {**to_dict(config), **changed}.items() if value is not None
    }
    return from_dict(RiskConfig, plain, "risk")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
