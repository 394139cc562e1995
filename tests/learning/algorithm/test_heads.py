"""The critics are an ensemble: heads of their own, a mean for the actor, slow weights behind."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.transition import Source
from learner.algo.action import ActionComposer, make_action_composer
from learner.algo.actor import _bc_loss, actor_loss
from learner.algo.batch import Batch, unpack
from learner.algo.update import (
    LearnerState,
    UpdateContext,
    actor_step,
    critic_metrics,
    critic_step,
    draw,
    init_state,
    make_update,
)
from learner.bases.protocol import BaseContext
from learner.data.replay import Replay
from learner.nets.mlp import ensemble, init_ensemble
from learner.nets.normaliser import identity
from learner.presets import PRESETS, preset

KEY = jax.random.key(4)
FIXED = UpdateContext(KEY, identity(SPEC.state), np.float32(1), np.float32(1))
SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8, "num_qs": 4}


def composer_of(name: Any = "resfit", **changes) -> ActionComposer:
    return make_action_composer(preset(name, **{**SMALL, **changes}), SPEC)


def state_of(composer: ActionComposer):
    return init_state(composer, SPEC.state, SPEC.action, KEY)


def constant_heads(composer: ActionComposer, values: list[float]):
    critic = state_of(composer).critic
    w, b = jnp.zeros_like(critic["w_out"]), jnp.asarray(values, jnp.float32)[:, None]
    return {**critic, "w_out": w, "b_out": b}


@cache
def step_of(composer: ActionComposer):
    """Return one critic step, (state, batch) -> (state, metrics), that draws as an update does."""

    def step(state: LearnerState, batch: Batch):
        chance = draw(composer, FIXED, state.step, batch.action.shape)
        after, outcome = critic_step(composer, FIXED, state, (batch, chance))
        return after, critic_metrics(
            jax.tree.map(lambda leaf: leaf[None], outcome), batch.is_prior[None]
        )

    return jax.jit(step)


def packed(composer: ActionComposer, batches: int = 1) -> Any:
    replay = Replay(composer.config, SPEC)
    for episode in range(4):
        for row in make_episode(episode, 6, Source.DEMO if episode < 2 else Source.ONLINE):
            replay.add(row)
    return replay.sample(composer.config.batch, np.random.default_rng(0), batches)


def batch_of(composer: ActionComposer) -> Batch:
    now, nxt, extra = (jnp.asarray(part[0]) for part in packed(composer))
    return unpack(now, nxt, extra, SPEC.state, SPEC.action)


def equal(one, other) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


@pytest.mark.slow
def test_every_weight_belongs_to_one_head():
    params = init_ensemble(KEY, 4, 5, (8, 8))
    inputs = jax.random.normal(KEY, (6, 5))
    values = np.asarray(ensemble(params, inputs))
    for name, leaf in params.items():
        other = np.asarray(ensemble({**params, name: leaf.at[1].add(0.5)}, inputs))
        changed = np.abs(other - values).max(1) > 0
        # a hidden layer's constant shift is taken out again by LayerNorm, but not to the bit
        assert changed.tolist() == [False, True, False, False], name


@pytest.mark.slow
def test_value_is_bounded_however_far_the_action_is():
    params = init_ensemble(KEY, 4, 5, (8, 8))
    far = 1e6 * jax.random.normal(KEY, (50, 5))
    bound = np.linalg.norm(np.asarray(params["w_out"])[..., 0], axis=1) * np.sqrt(8)
    assert (np.abs(ensemble(params, far)).max(1) <= bound).all()


@pytest.mark.slow
def test_actor_climbs_the_mean_of_all_heads():
    composer = composer_of()
    critic = constant_heads(composer, [5.0, 1.0, 2.0, 4.0])
    actor = state_of(composer).actor
    loss, _ = actor_loss(composer, actor, critic, batch_of(composer), jnp.ones(()), 1.0, KEY)
    assert float(loss) == pytest.approx(-3.0)


@pytest.mark.slow
def test_slow_weights_follow_at_their_rate_after_each_step():
    composer = composer_of()
    before = state_of(composer)
    target_critic = {name: leaf + 1.0 for name, leaf in before.critic.items()}
    after, _ = step_of(composer)(before._replace(target_critic=target_critic), batch_of(composer))
    for name, slow in target_critic.items():
        expected = 0.995 * slow + 0.005 * after.critic[name]
        np.testing.assert_allclose(after.target_critic[name], expected, atol=1e-6)
    assert not equal(after.critic, after.target_critic)


@pytest.mark.slow
def test_the_actors_step_leaves_the_critics_alone():
    composer = composer_of("residual_hil")
    before = state_of(composer)
    step = jax.jit(partial(actor_step, composer, FIXED))
    after, _ = step(before, batch_of(composer))
    for part in ("critic", "target_critic", "critic_opt", "step"):
        assert equal(getattr(before, part), getattr(after, part)), part
    assert not equal(before.actor, after.actor)


def test_every_step_draws_heads_of_its_own():
    composer = composer_of()
    state = state_of(composer)._replace(target_critic=constant_heads(composer, [0, 1, 2, 3]))
    batch = batch_of(composer)._replace(reward=jnp.zeros(8), discount=jnp.ones(8))
    step = step_of(composer)
    seen = {float(step(state._replace(step=jnp.int32(i)), batch)[1]["target"]) for i in range(40)}
    assert seen == {0.0, 1.0, 2.0}  # the minimum of two of the four


@pytest.mark.slow
def test_error_of_each_half_of_the_batch_is_told_apart():
    composer = composer_of()
    state = state_of(composer)._replace(critic=constant_heads(composer, [0.0] * 4))
    batch = batch_of(composer)
    anchored = np.asarray(batch.is_prior) == 1
    assert 0 < anchored.sum() < 8
    batch = batch._replace(reward=jnp.where(anchored, 1.0, 3.0), discount=jnp.zeros(8))
    _, metrics = step_of(composer)(state, batch)
    assert float(metrics["td_demo"]) == pytest.approx(1.0)
    assert float(metrics["td_online"]) == pytest.approx(3.0)


@pytest.mark.slow
def test_anchor_pulls_to_the_edge_of_the_reach_and_no_further():
    composer = composer_of(residual_scale=(0.2,))
    base = jnp.zeros((3, 2))
    batch = Batch(
        state=jnp.zeros((3, 3)),
        action=jnp.asarray([[0.1, 0.1], [0.3, 0.3], [0.9, 0.9]]),  # within, just beyond, far beyond
        context=BaseContext(base, jnp.zeros(3), jnp.ones(3)),
        next_state=jnp.zeros((3, 3)),
        next_context=BaseContext(base, jnp.zeros(3), jnp.ones(3)),
        reward=jnp.zeros(3),
        discount=jnp.zeros(3),
        is_prior=jnp.ones(3),
    )
    wanted = jnp.asarray([[0.5, 0.5], [1.0, 1.0], [0.0, 0.0]])
    assert float(_bc_loss(composer, wanted, batch)) == pytest.approx(0.0)
    slope = jax.grad(lambda edit: _bc_loss(composer, edit, batch))(jnp.zeros((3, 2)))
    assert (np.asarray(slope)[:2] < 0).all()
    assert not np.asarray(slope)[2].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_an_update_that_runs(name):
    composer = composer_of(name)
    update = make_update(composer, SPEC.state, SPEC.action, with_actor=True)
    state = state_of(composer)
    after, metrics = jax.eval_shape(update, state, packed(composer, 2), FIXED)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert [leaf.shape for leaf in jax.tree.leaves(after)] == shapes
    assert metrics.ndim == 1
