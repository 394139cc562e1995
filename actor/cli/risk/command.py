"""`handrail risk collect|train|calibrate|plot`: the risk critic, from data to a file that runs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from actor.cli.options import parse, parser, say

if TYPE_CHECKING:
    from learner.risk.config import RiskConfig

EPILOG = """\
Data are run folders (episodes in risk/data/, flight recordings) and files of `collect`. Any key of
table [risk] can be overridden, for example  --risk.horizon 0.2   --risk.force_limit 40
`collect` takes any key of the config. Results are printed as one line of JSON at the end."""


def main(argv: list[str]) -> int:
    """Carry out one of the four; return the exit code."""
    arguments = parser("risk", "Train, calibrate and plot a risk critic.")
    arguments.epilog = EPILOG
    commands = arguments.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = commands.add_parser("collect", help="make data by scripted pushes on a simulated arm")
    made.add_argument("task", help="a run folder, which gets the data, a task, or a .toml file")
    made.add_argument("--episodes", type=int, default=200, metavar="N", help="how many [200]")
    made.add_argument("--seed", type=int, default=0, help="of the first episode [0]")
    made.add_argument("--out", type=Path, metavar="FILE", help="file to write")
    for name, text in (
        ("train", "train a critic, calibrate it on episodes held out, draw it"),
        ("calibrate", "set the threshold of a critic by episodes that it was not trained on"),
        ("plot", "judge a critic by episodes that it was not trained on, and draw it"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("data", type=Path, nargs="+", help="run folders or data files")
        command.add_argument(
            "--out", type=Path, metavar="FOLDER", help="folder of the critic [RUN/risk]"
        )
    options, rest = parse(arguments, argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("jax").setLevel(logging.WARNING)
    return _collect(options, rest) if options.command == "collect" else _make(options, rest)


def _collect(options: argparse.Namespace, rest: list[str]) -> int:
    from actor.cli.risk.episodes import collect, data_folder
    from actor.cli.run_folders import open_configured_run
    from actor.config import load_config
    from handrail.errors import ConfigError
    from learner.risk.episodes import save_episodes

    out: Path | None = options.out
    if options.episodes < 1 or options.seed < 0:
        raise ConfigError(
            f"--episodes is 1 or more and --seed 0 or more, got {options.episodes} and "
            f"{options.seed}"
        )
    if Path(options.task).is_dir():
        run, config = open_configured_run(Path(options.task))
        if rest:
            raise ConfigError(f"a run has its config already; {' '.join(rest)} can't override it")
        out = out or data_folder(run) / f"pushes-{options.seed:06d}.safetensors"
    else:
        config = load_config(options.task, rest, "risk collect")
    if out is None:
        raise ConfigError("say where the data go: --out FILE")
    episodes = collect(config, options.episodes, options.seed)
    save_episodes(out, episodes, {"task": config.task.name, "seed": options.seed})
    bad = sum(episode.violates for episode in episodes)
    seconds = round(sum(episode.seconds for episode in episodes), 3)
    say(f"data: {out}")
    say(json.dumps({"episodes": len(episodes), "violating": bad, "seconds": seconds}))
    return 0


def _make(options: argparse.Namespace, rest: list[str]) -> int:
    from actor.cli.risk import pipeline
    from actor.cli.risk.episodes import config_of, read_sources
    from learner.risk.config import RiskConfig

    first: Path = options.data[0]
    out: Path = options.out or (first / "risk" if first.is_dir() else first.parent)
    if options.command == "train":
        run_config = config_of(first)
        config = _override(run_config.risk if run_config else RiskConfig(), rest)
        results = pipeline.train(read_sources(options.data, config), config, out)
    else:
        critic, about, config = pipeline.load(out)
        config = _override(config, rest)
        work = pipeline.recalibrate if options.command == "calibrate" else pipeline.reevaluate
        results = work(read_sources(options.data, config), config, out, critic, about)
    say(f"critic: {out / 'critic.safetensors'}")
    say(f"picture: {out / 'risk.png'}")
    say(json.dumps(results))
    return 0


def _override(config: RiskConfig, words: list[str]) -> RiskConfig:
    """Return the config with options like `--risk.horizon 0.2` applied."""
    if not words:
        return config
    import tyro

    from actor.config import RiskTable

    return tyro.cli(RiskTable, prog="handrail risk", args=words, default=RiskTable(config)).risk


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
