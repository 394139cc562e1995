"""A run's whole config: one table per component, from a file and the command line."""

from __future__ import annotations

import dataclasses
import importlib.resources
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actor.overrides import values_of
from actor.resolution import Given, Layer, budget, flatten, fold, layers_of, nest, refuse_other_kind
from controllers.config import ControlConfig
from handrail.config import check, from_dict, load_toml
from handrail.errors import ConfigError
from handrail.link.config import LinkConfig
from learner.config import BaseConfig, LearnerConfig
from learner.risk.config import RiskConfig
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.sim.config import MujocoConfig
from robot_env.gym.config import GymConfig
from robot_env.host.config import HostConfig
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.kinds import GYM, METAWORLD, prefix_of
from robot_env.teleop.scripted import OperatorConfig

_BARE: dict[str, dict[str, Any]] = {  # the config of an environment that is given by its name alone
    GYM: {"learner": {"preset": "rlpd"}, "run": {"demos": 0}},
    METAWORLD: {"learner": {"preset": "residual_hil"}, "run": {"demos": 20, "steps": 20_000}},
}


SEEDS = 2**32  # there are so many: jax's and numpy's generators take 32 bits
SEED_RULE = "0 or more and less than 2^32"


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
        for name in ("seed", "demo_seed"):
            check(0 <= getattr(self, name) < SEEDS, name, getattr(self, name), SEED_RULE)
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


def load_config(name: str, overrides: list[str] | None = None) -> Config:
    """Return the config of a shipped task or of a TOML file, with overrides applied.

    Args:
        name: Name of a shipped config ("peg"), path to a TOML file, or a gymnasium environment:
            "gym:Pendulum-v1", "metaworld:peg-insert-side-v3".
        overrides: Options like ["--learner.utd", "4"].

    Raises:
        ConfigError: No such config, or a bad key or value in it or in the overrides.
    """
    return resolve_config(name, overrides)[0]


def resolve_config(
    name: str, overrides: list[str] | None = None
) -> tuple[Config, dict[str, Given]]:
    """Return a config and, by dotted key, where each of its values comes from.

    Raises:
        ConfigError: As `load_config`.
    """
    prefix = prefix_of(name)
    if prefix is None:
        path = find_config(name)
        file = Layer(f"file {path.name}", flatten(load_toml(path)))
    else:
        bare = {"task": {"name": name}, **_BARE[prefix]}
        file = Layer(f"any {prefix}ID", flatten(bare))
    said = Layer("command line", values_of(Config, list(overrides or [])))
    refuse_other_kind(_defaults(), file, said)
    layers = layers_of(_defaults(), file, said)
    layers.append(budget(fold(layers)))
    config = _build(layers)
    preset, demos = config.learner.preset, config.run.demos
    rule = f"2 or more for learner.preset {preset!r}, which needs a base; rlpd needs none"
    check(demos > 0 or not config.learner.needs_base, "run.demos", demos, rule)
    return config, fold(layers)


def parse_config(table: dict[str, Any]) -> Config:
    """Return the config of parsed TOML tables; a preset's values yield to what the table says.

    Raises:
        ConfigError: A bad key or value.
    """
    nothing = Layer("command line", {})
    return _build(layers_of(_defaults(), Layer("file", flatten(table)), nothing))


def _defaults() -> Layer:
    tables = {item.name: getattr(_DEFAULT, item.name) for item in dataclasses.fields(Config)}
    values = {
        name: {k.name: getattr(table, k.name) for k in dataclasses.fields(table)}
        for name, table in tables.items()
    }
    return Layer("default", flatten(values))


def _build(layers: list[Layer]) -> Config:
    given = {key: value for key, (value, _) in fold(layers[1:]).items()}
    return from_dict(Config, nest(given))


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
    known = shipped()
    if name not in known:
        raise ConfigError(
            f"no task {name!r}; shipped are {', '.join(known)}, or give a path to a "
            f".toml file, or a gymnasium environment as gym:ID"
        )
    return known[name]


def shipped() -> dict[str, Path]:
    """Return the shipped configs' files by name."""
    return {path.stem: path for path in sorted(_shipped_folder().glob("*.toml"))}


def _shipped_folder() -> Path:
    package = Path(str(importlib.resources.files("handrail")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


_DEFAULT = Config(TaskConfig())
