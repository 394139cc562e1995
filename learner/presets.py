"""Published methods, each a small change of the defaults; none has code of its own.

propose                edit              select            actor's loss
rlpd, serl, hil_serl   zeros             whole action      SAC
resfit                 base              residual          TD3
residual_hil           base              residual or base  SAC
expo                   base              residual or base  SAC
idql                   base and samples  best of them      none
ibrl                   zeros             policy or base    TD3
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from handrail.config import check, from_dict
from learner.config import LearnerConfig, PresetName
from learner.utd_scaling import scaled

_FROM_SCRATCH: dict[str, Any] = {
    "residual_on": "zeros",
    "actor": "sac",
    "collect": 0.02,
    "collect_with": "policy",
    "warmup": 0.0,
    "ramp": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "resfit": {},
    "rlpd": _FROM_SCRATCH,
    "serl": {**_FROM_SCRATCH, "activation": "tanh", "num_qs": 10, "batch": 256, "n_step": 1},
    "hil_serl": {**_FROM_SCRATCH, "activation": "tanh", "num_qs": 2, "batch": 256, "n_step": 1},
    "ibrl": {"residual_on": "zeros", "select": "best", "explore_noise": 0.1},
    "expo": {"select": "best", "actor": "sac", "initial_log_std": -1.0},
    "idql": {"select": "best", "residual_scale": (0.0,), "samples": 31},
    "residual_hil": {
        "actor": "sac",
        "initial_log_std": -1.0,
        "select": "best",
        "margin": 0.5,
        "successes_as_demos": True,
        "backoff_level": 0.05,
        "require_improvement": True,
        "noise_free_every": 3,
        "at_takeover": "terminal",
        "value_loss": "cross_entropy",
        "lr_decay_fraction": 0.5,
    },
}

_DEFAULTS = {field.name: field.default for field in fields(LearnerConfig)}


def preset_values(name: Any) -> dict[str, Any]:
    """Return what a preset changes of the defaults.

    Raises:
        ConfigError: There is no such preset.
    """
    known = isinstance(name, str) and name in PRESETS
    check(known, "learner.preset", name, f"one of {', '.join(get_args(PresetName))}")
    return dict(PRESETS[name])


def scaled_values(name: str, utd: Any) -> dict[str, Any]:
    """Return batch and learning rates of a preset at another ratio than its own, after `scaled`.

    Args:
        name: Of the preset.
        utd: The ratio [updates/env step]; None: the preset's own, for which nothing changes.

    Raises:
        ConfigError: The ratio is no positive number.
    """
    plain = {**_DEFAULTS, **PRESETS[name]}
    if utd is None:
        return {}
    check(isinstance(utd, int | float) and utd > 0, "learner.utd", utd, "a positive number")
    return {} if utd == plain["utd"] else scaled(utd, plain)


def rescaled(table: dict[str, Any], utd: Any) -> dict[str, Any]:
    """Return batch and rates that a table names for its own ratio, at another one.

    Args:
        table: [learner], as in a file; what is wrong in it is left for the config to say.
        utd: The ratio [updates/env step]; None, or what can't be one: nothing changes.
    """
    if not isinstance(utd, int | float) or not utd > 0:
        return {}
    numbers = {k: v for k, v in table.items() if isinstance(v, int | float) and v > 0}
    plain = {**_DEFAULTS, **PRESETS[table.get("preset", "resfit")], **numbers}
    return {key: value for key, value in scaled(utd, plain).items() if key in numbers}


def expand(table: dict[str, Any]) -> dict[str, Any]:
    """Return table [learner] with what its preset changes filled in; explicit keys win.

    Where the table has another `utd` than the preset, batch and learning rates that it leaves out
    follow the laws of `utd_scaling`.

    Raises:
        ConfigError: There is no such preset.
    """
    name = table.get("preset", "resfit")
    changed = preset_values(name)
    return {**changed, **scaled_values(name, table.get("utd")), **table, "preset": name}


def preset(name: PresetName, **overrides: Any) -> LearnerConfig:
    """Return the config of a published method."""
    return from_dict(LearnerConfig, expand({"preset": name, **overrides}), "learner")
