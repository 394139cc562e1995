"""A trainer over time: who moves when, and what is fitted once and then left alone."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.transition import Source, Transition
from learner.config import BaseConfig
from learner.policy.policy import Mode, Policy
from learner.presets import preset
from learner.trainer import Trainer

SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8, "total_steps": 200, "num_qs": 3}
SMALL |= {"collect": 0.05, "select": "edit"}
BASE = BaseConfig(chunk=4, execute=4, hidden=(16, 16), max_steps=60, evaluate_every=20, patience=1)


def rows_of(first: int, count: int, source: Source = Source.ONLINE) -> list[Transition]:
    return [row for e in range(first, first + count) for row in make_episode(e, 9, source)]


def started(name: Any, demos: int = 3) -> Trainer:
    trainer = Trainer(preset(name, **SMALL), BASE, SPEC, seed=1)
    for row in rows_of(0, demos, Source.DEMO):
        trainer.add(row)
    trainer.fit_base()
    for row in rows_of(10, 3):
        trainer.add(row)
    return trainer


def actor_of(trainer: Trainer) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trainer._state.actor))


@pytest.fixture(scope="module")
def residual() -> Trainer:
    return started("residual_hil")


@pytest.mark.slow
def test_critics_warm_up_before_the_actor_moves_or_selects(residual):
    before = actor_of(residual)
    assert residual.phase == "warmup"
    residual.advance(40)
    assert residual.updates == 40  # two for each of 10 steps of collect, and a tenth of 200
    assert actor_of(residual) == before
    assert residual.phase == "online"
    residual.advance(2)
    assert actor_of(residual) != before


def test_until_the_critics_are_warm_the_base_acts(residual):
    meta, arrays = residual.packet()
    moved = {name: array + np.float32(0.5) for name, array in arrays.items() if "actor" in name}
    policy = Policy(SPEC, residual.config, BASE)
    state = np.asarray([1, 2, 1], np.float32)
    for updates, by_base in ((39, True), (40, False)):
        policy.load({**meta, "updates": updates, "proven": True}, {**arrays, **moved})
        policy.reset()
        out = policy.act(state, "eval", 200)
        assert np.array_equal(out.action, out.base.action) == by_base


def test_an_evaluation_is_the_bases_until_edits_are_proven(residual):
    meta, arrays = residual.packet()
    assert meta["proven"] is False
    moved = {name: array + np.float32(0.5) for name, array in arrays.items() if "actor" in name}
    policy = Policy(SPEC, residual.config, BASE)
    state = np.asarray([1, 2, 1], np.float32)
    cases: list[tuple[Mode, bool, bool]] = [
        ("eval", False, True),
        ("eval", True, False),
        ("explore", False, False),
        ("noise_free", False, False),
    ]
    for mode, proven, by_base in cases:
        policy.load({**meta, "updates": 60, "proven": proven}, {**arrays, **moved})
        policy.reset()
        out = policy.act(state, mode, 200)
        assert np.array_equal(out.action, out.base.action) == by_base, (mode, proven)


def test_normaliser_is_fitted_to_the_demonstrations_once(residual):
    fitted = residual.normaliser.hash
    for row in rows_of(40, 3):
        residual.add(row)
    residual.advance(4)
    assert residual.normaliser.hash == fitted


def test_without_demonstrations_it_is_fitted_to_the_first_roll_outs_once():
    trainer = started("rlpd", demos=0)
    trainer.advance(2)
    fitted = trainer.normaliser.hash
    assert np.abs(trainer.normaliser.mean).max() > 0
    for row in rows_of(40, 3):
        trainer.add(row)
    trainer.advance(2)
    assert trainer.normaliser.hash == fitted
