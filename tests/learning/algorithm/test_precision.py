"""Products of bfloat16 factors: sums, weights and gradients stay float32, results near theirs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_rows import SPEC, make_episode

from handrail.transition import Source
from learner.algo.action import ActionComposer, make_action_composer
from learner.algo.batch import unpack
from learner.algo.critic import critic_loss, td_target
from learner.algo.update import METRICS, UpdateContext, init_state, make_update
from learner.data.replay import Replay
from learner.nets.mlp import rounded_product
from learner.nets.normaliser import identity
from learner.presets import preset

KEY = jax.random.key(3)
FIXED = UpdateContext(KEY, identity(SPEC.state), np.float32(1), np.float32(1))
ROUNDING = 2.0**-8  # [-], relative, of one bfloat16


def composer_of(precision: Any) -> ActionComposer:
    config = preset("rlpd", hidden=(64, 64), batch=32, num_qs=3, precision=precision)
    return make_action_composer(config, SPEC)


def packed_of(composer: ActionComposer, batches: int) -> Any:
    replay = Replay(composer.config, SPEC)
    for episode in range(6):
        for row in make_episode(episode, 9, Source.DEMO if episode < 3 else Source.ONLINE):
            replay.add(row)
    return replay.sample(composer.config.batch, np.random.default_rng(0), batches)


@pytest.mark.slow
@pytest.mark.parametrize("stack", [(), (3,)])
def test_product_and_its_gradients_are_sums_in_float32_of_rounded_factors(stack):
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (*stack, 8, 300))
    w = jax.random.normal(keys[1], (*stack, 300, 5))
    slope = jax.random.normal(keys[2], (*stack, 8, 5))
    out, gradients = jax.vjp(rounded_product, x, w)

    def rounded(array: jax.Array) -> np.ndarray:
        return np.asarray(array.astype(jnp.bfloat16)).astype(np.float64)

    to_x, to_w = gradients(slope)
    a, b, c = rounded(x), rounded(w), rounded(slope)
    for array, exact in (
        (out, a @ b),
        (to_x, c @ np.swapaxes(b, -1, -2)),
        (to_w, np.swapaxes(a, -1, -2) @ c),
    ):
        assert array.dtype == jnp.float32
        # sums of 300 terms in bfloat16, or a result rounded to it, would be off by some 1e-2
        np.testing.assert_allclose(array, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_targets_and_losses_agree_within_the_rounding():
    values: dict[str, list[np.ndarray]] = {}
    for precision in ("float32", "bfloat16"):
        composer = composer_of(precision)
        state = init_state(composer, SPEC.state, SPEC.action, KEY)
        now, nxt, extra = (jnp.asarray(part[0]) for part in packed_of(composer, 1))

        @jax.jit
        def judge(state, batch, composer=composer):
            slow = (state.actor, state.target_critic)
            target, _ = td_target(composer, *slow, batch, jnp.ones(()), 1.0, KEY)
            return target, *critic_loss(composer, state.critic, batch, target)

        judged = judge(state, unpack(now, nxt, extra, SPEC.state, SPEC.action))
        values[precision] = [np.asarray(value) for value in judged]
    for exact, rounded in zip(*values.values(), strict=True):
        error = np.abs(exact - rounded) / np.abs(exact).max()
        assert error.max() < 4 * ROUNDING  # six layers: an actor, then a critic
        assert error.max() > 0  # or nothing was rounded


@pytest.mark.slow
def test_weights_and_optimiser_stay_float32_and_the_metrics_near():
    metrics = {}
    for precision in ("float32", "bfloat16"):
        composer = composer_of(precision)
        update = make_update(composer, SPEC.state, SPEC.action, with_actor=True)
        state = init_state(composer, SPEC.state, SPEC.action, KEY)
        state, metrics[precision] = update(state, packed_of(composer, 4), FIXED)
        kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
        assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert len(metrics["float32"]) == len(METRICS)
    np.testing.assert_allclose(metrics["bfloat16"], metrics["float32"], rtol=0.05, atol=0.01)
