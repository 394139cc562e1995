"""Selection among samples around the base, as in IDQL: one composer, acting and target alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.errors import ConfigError
from handrail.transition import Source
from learner.algo.action import make_action_composer
from learner.algo.update import init_state
from learner.bases.protocol import BaseContext
from learner.config import BaseConfig
from learner.policy.policy import Policy
from learner.presets import preset
from learner.trainer import Trainer

KEY = jax.random.key(5)
CONFIG = preset("idql", hidden=(16, 16), samples=7)
COMPOSER = make_action_composer(CONFIG, SPEC)
STATE = init_state(COMPOSER, SPEC.state, SPEC.action, KEY)
STATES = jax.random.normal(KEY, (9, SPEC.state))
ACTIONS = jax.random.uniform(jax.random.fold_in(KEY, 2), (9, SPEC.action), minval=-1.0)
CONTEXT = BaseContext(ACTIONS, jnp.zeros(9), jnp.ones(9))
NOISE = jnp.zeros((9, SPEC.action))


def act(composer=COMPOSER, context=CONTEXT, gain=1.0):
    candidate_noise = composer.candidate_noise(KEY, NOISE.shape)
    return composer.act(STATE.actor, STATE.critic, STATES, context, NOISE, gain, candidate_noise)


def value(action) -> np.ndarray:
    return np.asarray(COMPOSER.value(STATE.critic, STATES, jnp.asarray(action)))


@pytest.mark.slow
def test_the_best_candidate_is_taken():
    candidate_noise = np.asarray(COMPOSER.candidate_noise(KEY, NOISE.shape))
    candidates = [np.asarray(ACTIONS), *np.clip(ACTIONS + candidate_noise, -1, 1)]
    means = np.stack([value(candidate).mean(0) for candidate in candidates])
    expected = np.stack(candidates)[means.argmax(0), np.arange(9)]
    np.testing.assert_allclose(act().action, expected, atol=1e-6)
    assert np.asarray(act().edited).mean() > 0  # some sample is better than the base somewhere


def test_a_margin_asks_for_heads_that_agree():
    timid = make_action_composer(preset("idql", hidden=(16, 16), samples=7, margin=1e6), SPEC)
    assert np.array_equal(act(timid, gain=0.5).action, ACTIONS)


@pytest.mark.slow
def test_more_samples_are_never_worse_to_the_critics_and_none_is_the_base():
    def best(samples: int) -> np.ndarray:
        composer = make_action_composer(preset("idql", hidden=(16, 16), samples=samples), SPEC)
        return value(act(composer).action).mean(0)

    base = value(ACTIONS).mean(0)
    np.testing.assert_allclose(best(0), base, atol=1e-6)
    assert (best(31) >= base - 1e-6).all()
    assert best(31).mean() > base.mean()


def test_before_the_critics_are_warm_and_without_a_base_nothing_is_sampled():
    assert np.array_equal(act(gain=0.0).action, ACTIONS)
    assert not np.asarray(act(context=CONTEXT._replace(valid=jnp.zeros(9))).action).any()


def test_samples_stay_in_the_box_and_near_the_base():
    wide = make_action_composer(preset("idql", hidden=(16, 16), samples=31, sample_noise=5.0), SPEC)
    assert np.abs(act(wide).action).max() <= 1.0
    small = np.abs(act(gain=0.01).action - ACTIONS).max()
    assert 0 < small < 0.01 * CONFIG.sample_noise * 5


def test_samples_without_a_judge_are_refused():
    with pytest.raises(ConfigError, match='samples must be 0 unless select is "best"'):
        preset("idql", select="edit")


@pytest.mark.slow
def test_a_run_of_idql_trains_critics_only_and_acts_by_them():
    config = preset("idql", hidden=(16, 16), samples=7, total_steps=100, batch=8)
    base = BaseConfig(chunk=4, execute=4, hidden=(16, 16), max_steps=60)
    trainer = Trainer(config, base, SPEC, seed=1)
    for row in (r for episode in range(3) for r in make_episode(episode, 9, Source.DEMO)):
        trainer.add(row)
    trainer.fit_base()
    before = jax.tree.map(np.asarray, trainer._state.actor)
    for row in (r for episode in range(3, 9) for r in make_episode(episode, 9)):
        trainer.add(row)
    trainer.advance(trainer.due())
    assert trainer.phase == "online"
    after = jax.tree.map(np.asarray, trainer._state.actor)
    assert all(np.array_equal(before[name], after[name]) for name in before)

    policy = Policy(SPEC, config, base)
    policy.load(*trainer.packet())
    state = np.asarray([3, 2, 1], np.float32)
    chosen = []
    for step in range(100, 120):
        policy.reset()
        chosen.append(policy.act(state, "eval", step))
    moved = [out for out in chosen if not np.array_equal(out.action, out.base.action)]
    assert moved, "no sample was ever preferred"
    assert len({out.action.tobytes() for out in chosen}) > 10  # each step draws its own samples
    again = Policy(SPEC, config, base)
    again.load(*trainer.packet())
    assert np.array_equal(again.act(state, "eval", 100).action, chosen[0].action)
