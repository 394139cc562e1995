"""Config keys that have another name now, in one table.

A file or a command line with an old key is refused, with the new one; what Handrail wrote itself
(run folders, checkpoints, risk critics) is read in the new words. Digests that are stored keep the
first ones, so that they mean the same at every version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

RENAMED: dict[str, dict[str, str]] = {  # table -> old key -> the key today
    "control": {
        "clip": "max_stretch",
        "rotational_clip": "max_rotational_stretch",
        "leash": "target_error_ratio",
        "cone": "max_tilt",
        "contact_force": "contact_force_threshold",
        "reflex_latch": "reflexes_before_stop",
        "joint_barrier": "joint_repulsion",
        "speed_braking": "overspeed_damping",
        "harvest": "dissipation_credit",
        "human_credit": "human_energy_loan",
        "human_window": "human_loan_window",
        "observer_damping": "passivity_damping",
        "off": "disabled_stages",
    },
    "learner": {
        "critic_rate": "critic_lr",
        "actor_rate": "actor_lr",
        "temperature_rate": "temperature_lr",
        "cost_rate": "cost_lr",
        "target_rate": "tau",
        "ema_rate": "actor_ema",
        "own_successes": "successes_as_demos",
        "handover": "at_takeover",
        "pre_steps": "pre_intervention_steps",
        "pre_weight": "pre_intervention_weight",
        "anneal": "lr_decay_fraction",
        "edit_from": "residual_on",
        "gripper_scale": "gripper_residual_scale",
        "bc_anchor": "bc_weight",
        "quiet_every": "noise_free_every",
        "scale": "residual_scale",
        "ensemble": "num_qs",
        "subset": "num_min_qs",
        "retreat": "backoff_level",
        "proof": "require_improvement",
    },
    "base": {"rate": "lr"},
    "risk": {"rate": "lr", "target_rate": "tau", "announce": "warning_time"},
}
# Values of a key that were renamed as well: (table, key today) -> old value -> the value today.
RENAMED_VALUES: dict[tuple[str, str], dict[str, str]] = {
    ("control", "disabled_stages"): {"leash": "target_error", "observer": "passivity"},
}


def to_current(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table in today's words; what is in them already stays as it is.

    Args:
        name: Of the table, such as "learner".
        table: Keys and values, as an earlier version wrote them.
    """
    keys = RENAMED.get(name, {})
    renamed = {keys.get(key, key): value for key, value in table.items()}
    for (where, key), values in RENAMED_VALUES.items():
        if where == name and key in renamed:
            renamed[key] = _each(renamed[key], lambda value, of=values: of.get(value, value))
    return renamed


def to_original(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table in the words of stored digests, the inverse of `to_current`."""
    keys = {new: old for old, new in RENAMED.get(name, {}).items()}
    renamed = dict(table)
    for (where, key), values in RENAMED_VALUES.items():
        if where == name and key in renamed:
            back = {new: old for old, new in values.items()}
            renamed[key] = _each(renamed[key], lambda value, of=back: of.get(value, value))
    return {keys.get(key, key): value for key, value in renamed.items()}


def tables_to_current(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole config in today's words."""
    return {
        name: to_current(name, table) if isinstance(table, Mapping) else table
        for name, table in tables.items()
    }


def renamed_value(where: str, value: Any) -> str | None:
    """Return what a value is called today, None where it has no other name.

    Args:
        where: Dotted key, such as "control.disabled_stages[0]".
        value: As given.
    """
    table, _, key = where.partition("[")[0].partition(".")
    return RENAMED_VALUES.get((table, key), {}).get(value) if isinstance(value, str) else None


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [change(item) if isinstance(item, str) else item for item in value]
    return value
