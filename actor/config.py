"""A run's whole config: one table per component, from a file and the command line."""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from controllers.config import ControlConfig
from handrail.config import check, from_dict, load_toml
from handrail.errors import ConfigError
from handrail.link.config import LinkConfig
from learner.config import BaseConfig, LearnerConfig
from learner.presets import at_ratio, expand
from learner.risk.config import RiskConfig
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.sim.config import MujocoConfig
from robot_env.gym.config import GymConfig, resolve, unit_value
from robot_env.host.config import HostConfig
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import GYM, METAWORLD, prefix_of
from robot_env.teleop.scripted import OperatorConfig

# What a gymnasium environment changes in [learner], unless it is given there. Without one reward
# of 1 at the end values aren't in [0, 1], and entropy in them misleads nobody. From scratch the
# first steps show too little of the state to scale by: a pendulum's top was 10 deviations off.
DENSE: dict[str, Any] = {"v_range": None, "success_is_terminal": False, "backup_entropy": True}
FROM_SCRATCH: dict[str, Any] = {"normaliser_floor": 1.0}
_BARE: dict[str, dict[str, Any]] = {  # the config of an environment that is given by its name alone
    GYM: {"learner": {"preset": "rlpd"}, "run": {"demos": 0}},
    METAWORLD: {"learner": {"preset": "residual_hil"}, "run": {"demos": 20, "steps": 20_000}},
}


@dataclass(frozen=True)
class RunConfig:
    """How long a run is and what it is measured by."""

    seed: int = 0  # [-], of everything but the demonstrations
    steps: int = 10_000  # [steps], training steps on the robot
    demos: int = 20  # [episodes], successful demonstrations recorded first; 0: from scratch
    demo_seed: int = 0  # [-], the same for methods that are compared
    eval_episodes: int = 50  # [episodes], at the end, each of policy, base and trivial policies
    publish_steps: int = 25  # [steps], training steps between publications of weights
    max_lead: int = 100  # [steps], how far a simulated robot may be ahead of training; 0: no bound
    journal: bool = False  # also write an account of rows apart from the spool, to audit the link

    def __post_init__(self) -> None:
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        check(self.steps >= 1, "steps", self.steps, "1 or more")
        check(self.demos >= 0, "demos", self.demos, "0 or more")
        check(self.eval_episodes >= 1, "eval_episodes", self.eval_episodes, "1 or more")
        check(self.publish_steps >= 1, "publish_steps", self.publish_steps, "1 or more")
        check(self.max_lead >= 0, "max_lead", self.max_lead, "0 or more")


@dataclass(frozen=True)
class Config:
    """Everything that a run does, in one value; a run folder holds it as config.toml."""

    task: TaskConfig
    robot: MujocoConfig = field(default_factory=MujocoConfig)
    franka: FrankaConfig = field(default_factory=FrankaConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    base: BaseConfig = field(default_factory=BaseConfig)
    operator: OperatorConfig = field(default_factory=OperatorConfig)
    host: HostConfig = field(default_factory=HostConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    gym: GymConfig = field(default_factory=GymConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class RiskTable:
    """Table [risk] alone, for commands that work without a run."""

    risk: RiskConfig = field(default_factory=RiskConfig)


def load_config(name: str, overrides: list[str] | None = None, command: str = "train") -> Config:
    """Return the config of a shipped task or of a TOML file, with overrides applied.

    Args:
        name: Name of a shipped config ("peg"), path to a TOML file, or a gymnasium environment:
            "gym:Pendulum-v1", "metaworld:peg-insert-side-v3".
        overrides: Options like ["--learner.utd", "4"].
        command: Name shown in help and errors.

    Raises:
        ConfigError: No such config, or a bad key or value in it.
        SystemExit: A bad override; tyro has printed why.
    """
    prefix = prefix_of(name)
    if prefix is None:
        table = load_toml(find_config(name))
    else:
        table = {"task": {"name": name}, **copy.deepcopy(_BARE[prefix])}
    options = list(overrides or [])
    learner = table.setdefault("learner", {})
    preset = _option(options, "--learner.preset")
    if preset is not None:
        learner["preset"] = preset
    utd = _option(options, "--learner.utd")
    if utd is not None:  # before the defaults that follow it are filled in
        learner.update(_at_ratio(learner, _number(utd)))
    config = _parse(table)
    if options:
        config = tyro.cli(Config, prog=f"handrail {command}", args=options, default=config)
    # the learner's phases are shares of the run's budget
    whole = dataclasses.replace(config.learner, total_steps=config.run.steps)
    rule = f"2 or more for learner.preset {whole.preset!r}, which needs a base; rlpd needs none"
    check(config.run.demos > 0 or not whole.needs_base, "run.demos", config.run.demos, rule)
    given = set(learner)
    given |= {key for key in (*DENSE, *FROM_SCRATCH) if _mentions(options, f"learner.{key}")}
    return _fit_learner(dataclasses.replace(config, learner=whole), given)


def parse_config(table: dict[str, Any]) -> Config:
    """Return the config of parsed TOML tables; a preset's values yield to what the table says.

    Raises:
        ConfigError: A bad key or value.
    """
    return _fit_learner(_parse(table), set(table.get("learner", {})))


def _parse(table: dict[str, Any]) -> Config:
    return from_dict(Config, {**table, "learner": expand(table.get("learner", {}))})


def _fit_learner(config: Config, given: set[str]) -> Config:
    """Return the config without defaults of the learner that only suit the arm's tasks.

    Args:
        config: Any.
        given: Keys of [learner] that somebody asked for; they stay.
    """
    if prefix_of(config.task.name) is None:
        return config
    changes = {} if unit_value(resolve(config.task.name, config.gym)) else dict(DENSE)
    changes |= FROM_SCRATCH if config.run.demos == 0 else {}
    changes = {key: value for key, value in changes.items() if key not in given}
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changes))


def require_simulation(config: Config, command: str) -> None:
    """Refuse a config whose robot is not the simulated one that a command runs by itself.

    Raises:
        ConfigError: It is another; only `handrail train` goes through the host process.
    """
    rule = f"'mujoco' for `{command}`, which runs the simulated arm by itself"
    check(config.host.robot == "mujoco", "host.robot", config.host.robot, rule)


def find_config(name: str) -> Path:
    """Return the path of a shipped config or of the file that was named.

    Raises:
        ConfigError: There is neither; the message lists what is shipped.
    """
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no config file {name}")
        return path
    shipped = {path.stem: path for path in _shipped_folder().glob("*.toml")}
    if name not in shipped:
        raise ConfigError(
            f"no task {name!r}; shipped are {', '.join(sorted(shipped))}, or give a path to a "
            f".toml file, or a gymnasium environment as gym:ID"
        )
    return shipped[name]


def _shipped_folder() -> Path:
    package = Path(str(importlib.resources.files("handrail")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _at_ratio(learner: dict[str, Any], utd: float | str) -> dict[str, Any]:
    if isinstance(utd, str) or not utd > 0:
        return {**learner, "utd": utd}  # refused where its rule is known
    return at_ratio(learner, utd)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # refused where its rule is known


def _option(options: list[str], name: str) -> str | None:
    for i, option in enumerate(options):
        if option == name and i + 1 < len(options):
            return options[i + 1]
        if option.startswith(name + "="):
            return option.split("=", 1)[1]
    return None


def _mentions(options: list[str], key: str) -> bool:
    """Return whether an option of table [learner] is given, however it is spelled."""
    table, _, field_name = key.partition(".")
    names = {f"--{table}.{no}{field_name}".replace("_", "-") for no in ("", "no-")}
    return any(option.split("=")[0].replace("_", "-") in names for option in options)
