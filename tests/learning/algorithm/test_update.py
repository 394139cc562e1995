"""One update: the target's closed form, who moves and who doesn't, and bitwise repeatability."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made_rows import SPEC, make_episode

from handrail.transition import Source
from learner.algo.action import ActionComposer, make_action_composer
from learner.algo.batch import Batch, unpack
from learner.algo.critic import critic_loss, td_target
from learner.algo.update import (
    METRICS,
    LearnerState,
    UpdateContext,
    clip_by_global_norm,
    critic_step,
    draw,
    init_state,
    lr_schedule,
    make_update,
)
from learner.data.replay import Replay
from learner.nets.normaliser import identity
from learner.presets import preset

SMALL = {"hidden": (16, 16), "batch": 8, "discount": 0.9}
KEY = jax.random.key(3)
MOVED_BY_SIGN = ("critic", "target_critic", "actor", "ema_actor")
FIXED = UpdateContext(KEY, identity(SPEC.state), np.float32(1), np.float32(1))


def composer_of(name: Any = "resfit", **changes) -> ActionComposer:
    return make_action_composer(preset(name, **{**SMALL, **changes}), SPEC)


def update_of(composer: ActionComposer, with_actor: bool):
    return make_update(composer, SPEC.state, SPEC.action, with_actor)


def fresh(composer: ActionComposer) -> LearnerState:
    return init_state(composer, SPEC.state, SPEC.action, KEY)


def replay_of(composer: ActionComposer) -> Replay:
    replay = Replay(composer.config, SPEC)
    for episode in range(4):
        source = Source.DEMO if episode < 2 else Source.ONLINE
        for row in make_episode(episode, 6, source, success=episode % 2 == 0):
            replay.add(row)
    return replay


def packed_of(composer: ActionComposer, batches: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return replay_of(composer).sample(composer.config.batch, rng, batches)


def batch_of(composer: ActionComposer) -> Batch:
    now, nxt, extra = (jnp.asarray(part[0]) for part in packed_of(composer, 1))
    return unpack(now, nxt, extra, SPEC.state, SPEC.action)


def constant_heads(composer: ActionComposer, values: list[float]):
    """Critics that answer the same everywhere, each head its own value."""
    critic = fresh(composer).critic
    return {
        **critic,
        "w_out": jnp.zeros_like(critic["w_out"]),
        "b_out": jnp.asarray(values, jnp.float32)[:, None],
    }


def leaves_equal(one, other) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def copy(state: LearnerState) -> LearnerState:
    return jax.tree.map(jnp.copy, state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "rlpd", "expo", "ibrl"])
def test_target_is_the_closed_form_for_terminated_truncated_and_n_step(name):
    composer = composer_of(name, num_qs=3, num_min_qs=3)
    critic = constant_heads(composer, [5.0, 2.0, 3.0])
    replay = replay_of(composer)
    slots = np.arange(13)
    slots = slots[~replay.end[slots]]
    windows = replay.windows(slots)
    batch = unpack(
        jnp.asarray(replay.rows[slots]),
        jnp.asarray(replay.rows[windows.bootstrap]),
        jnp.asarray(np.stack([windows.reward, windows.discount], -1)),
        SPEC.state,
        SPEC.action,
    )
    target, _ = td_target(composer, fresh(composer).actor, critic, batch, jnp.ones(()), 1.0, KEY)
    left = 6 - replay.t[slots]  # steps to the end of the episode, of which each ends as its number
    steps = np.minimum(left, 3)
    ends = (replay.episode[slots] == 0) & (left <= 3)
    expected = np.where(ends, 0.9 ** (left - 1.0), 0.9**steps * 2.0)
    np.testing.assert_allclose(target, expected, rtol=1e-5)


def test_target_is_the_minimum_over_two_different_heads():
    composer = composer_of(num_qs=5, num_min_qs=2)
    critic = constant_heads(composer, [0.0, 1.0, 2.0, 3.0, 4.0])
    batch = batch_of(composer)._replace(
        reward=jnp.zeros(composer.config.batch), discount=jnp.ones(composer.config.batch)
    )
    actor = fresh(composer).actor

    @jax.jit
    def drawn(key):
        return td_target(composer, actor, critic, batch, jnp.ones(()), 1.0, key)[0][0]

    seen = [round(float(drawn(jax.random.key(i)))) for i in range(400)]
    # without replacement the minimum is head i with chance (4 - i) / 10, and never head 4
    share = np.bincount(seen, minlength=5) / 400
    np.testing.assert_allclose(share, [0.4, 0.3, 0.2, 0.1, 0.0], atol=0.08)
    assert share[4] == 0.0


@pytest.mark.slow
def test_entropy_in_the_backup_is_discounted_and_masked():
    composer = composer_of("rlpd", backup_entropy=True)
    critic = constant_heads(composer, [0.0] * 5)
    batch = batch_of(composer)._replace(reward=jnp.zeros(8), discount=jnp.arange(8.0))
    actor = fresh(composer).actor
    target, _ = td_target(composer, actor, critic, batch, jnp.ones(()), 1.0, KEY)
    doubled, _ = td_target(composer, actor, critic, batch, 2 * jnp.ones(()), 1.0, KEY)
    assert target[0] == 0.0
    assert np.abs(target[1:]).min() > 0
    np.testing.assert_allclose(doubled, 2 * target, rtol=1e-5)


def test_value_range_clips_targets_and_counts_them():
    composer = composer_of(v_range=(0.0, 1.0))
    critic = constant_heads(composer, [9.0] * 5)
    batch = batch_of(composer)
    actor = fresh(composer).actor
    target, clipped = td_target(composer, actor, critic, batch, jnp.ones(()), 1.0, KEY)
    assert target.max() <= 1.0
    assert float(clipped) == pytest.approx(float((batch.discount > 0).mean()))


@pytest.mark.slow
def test_loss_averages_each_heads_own_error():
    composer = composer_of(num_qs=2, num_min_qs=1)
    critic = constant_heads(composer, [-1.0, 1.0])
    loss, _ = critic_loss(composer, critic, batch_of(composer), jnp.zeros(8))
    assert float(loss) == pytest.approx(1.0)  # the square of the mean error would be 0


RANGE = {"v_range": (-1.0, 1.0), "value_loss": "cross_entropy"}


@pytest.mark.slow
def test_cross_entropy_pulls_each_score_by_the_error_of_its_share():
    composer = composer_of(num_qs=2, num_min_qs=1, **RANGE)
    critic = constant_heads(composer, [-2.0, 0.5])
    target = jnp.linspace(-1.0, 1.0, 8)

    def loss(bias: jax.Array) -> jax.Array:
        return critic_loss(composer, {**critic, "b_out": bias}, batch_of(composer), target)[0]

    share = (np.asarray(target) + 1.0) / 2.0
    given = 1.0 / (1.0 + np.exp([[2.0], [-0.5]]))
    slope = jax.grad(loss)(critic["b_out"])
    np.testing.assert_allclose(slope, (given - share).mean(1, keepdims=True) / 2, atol=1e-6)


@pytest.mark.slow
def test_values_of_cross_entropy_never_leave_their_range_and_begin_near_its_lower_end():
    composer = composer_of(**RANGE)
    batch = batch_of(composer)
    new = composer.value(fresh(composer).critic, batch.state, batch.action)
    assert -1.0 < float(new.min()) <= float(new.mean()) < -0.6
    wild = jax.tree.map(lambda leaf: leaf * 1e3, fresh(composer).critic)
    values = composer.value(wild, batch.state, batch.action)
    assert float(jnp.abs(values).max()) <= 1.0
    assert float(values.std()) > 0.1


@pytest.mark.slow
def test_without_a_range_there_is_nothing_to_take_cross_entropy_of():
    plain, asked = composer_of(), composer_of(value_loss="cross_entropy")
    packed = packed_of(plain, 2)
    done = [update_of(op, True)(fresh(op), packed, FIXED)[0] for op in (plain, asked)]
    assert leaves_equal(*done)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "rlpd"])
def test_critic_only_updates_leave_actor_and_temperature_untouched(name):
    composer = composer_of(name)
    update = update_of(composer, False)
    before = fresh(composer)
    after = copy(before)
    for seed in range(3):
        after, _ = update(after, packed_of(composer, 2, seed), FIXED)
    still = ("actor", "ema_actor", "actor_opt", "log_alpha", "alpha_opt")
    assert all(leaves_equal(getattr(before, part), getattr(after, part)) for part in still)
    assert not leaves_equal(before.critic, after.critic)
    assert int(after.step) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "rlpd"])
def test_full_update_moves_everything_that_trains(name):
    composer = composer_of(name)
    update = update_of(composer, True)
    before = fresh(composer)
    after, metrics = update(copy(before), packed_of(composer, 2), FIXED)
    for part in ("critic", "target_critic", "actor", "ema_actor"):
        assert not leaves_equal(getattr(before, part), getattr(after, part)), part
    assert leaves_equal(before.log_alpha, after.log_alpha) == (name == "resfit")
    assert np.isfinite(np.asarray(metrics)).all()
    assert len(metrics) == len(METRICS)


@pytest.mark.slow
def test_scan_of_four_equals_four_single_updates_to_the_bit():
    composer = composer_of()
    update = update_of(composer, False)
    packed = packed_of(composer, 4)
    together, _ = update(fresh(composer), packed, FIXED)
    single = fresh(composer)
    for i in range(4):
        part: Any = tuple(array[i : i + 1] for array in packed)
        single, _ = update(single, part, FIXED)
    assert leaves_equal(together, single)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resfit", "rlpd"])
def test_compiled_update_equals_the_uncompiled_one(name):
    composer = composer_of(name, num_qs=2, num_min_qs=2)
    packed = packed_of(composer, 1)
    update = update_of(composer, True)
    compiled, metrics = update(fresh(composer), packed, FIXED)
    state = fresh(composer)
    with jax.disable_jit():
        plain, plain_metrics = update(state, packed, FIXED)
    np.testing.assert_allclose(metrics, plain_metrics, rtol=1e-5, atol=1e-5)
    for part in LearnerState._fields:
        pairs = zip(
            jax.tree.leaves(getattr(compiled, part)),
            jax.tree.leaves(getattr(plain, part)),
            strict=True,
        )
        for a, b in pairs:
            close = np.isclose(a, b, rtol=1e-5, atol=1e-5)
            # Adam's first step is a sign: where a gradient is a rounding error, so is its sign.
            # The gradients themselves, in the optimisers' moments, are all near.
            assert close.mean() > (0.995 if part in MOVED_BY_SIGN else 1.0 - 1e-9), part


def test_slow_weights_follow_by_their_rate_and_nothing_else_is_kept_twice():
    composer = composer_of("rlpd")
    before = fresh(composer)
    after, _ = update_of(composer, True)(copy(before), packed_of(composer, 1), FIXED)
    config = composer.config
    for slow, fast, rate in (
        ("target_critic", "critic", config.tau),
        ("ema_actor", "actor", config.actor_ema),
    ):
        for old, new, goal in zip(
            *(jax.tree.leaves(tree) for tree in (
                getattr(before, slow), getattr(after, slow), getattr(after, fast)
            )),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(new, (1 - rate) * old + rate * goal, atol=1e-7)

    def numbers(tree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    # weights, slow weights and two moments; temperature with its two; the steps and three counts
    networks = 4 * (numbers(before.critic) + numbers(before.actor))
    assert numbers(after) == networks + 3 + 4


@pytest.mark.slow
def test_critic_learns_the_value_of_a_chain():
    composer = composer_of(critic_lr=3e-3, tau=0.05, num_qs=2, num_min_qs=2, residual_on="zeros")
    update = update_of(composer, False)
    replay = Replay(composer.config, SPEC)
    for row in make_episode(0, 6):
        replay.add(row)
    state, rng = fresh(composer), np.random.default_rng(0)
    for _ in range(300):
        state, _ = update(state, replay.sample(8, rng, 4), FIXED)
    slots = np.arange(6)
    values = composer.value(
        state.critic, jnp.asarray(replay.states(slots)), jnp.asarray(replay.actions(slots))
    )
    np.testing.assert_allclose(values.mean(0)[3:], 0.9 ** np.arange(2, -1, -1), atol=0.05)


@pytest.mark.slow
def test_actor_climbs_the_critics():
    composer = composer_of(actor_lr=1e-2)
    update = update_of(composer, True)
    state = fresh(composer)
    batch = batch_of(composer)

    def mean_value(learner, critic):
        noise = jnp.zeros_like(batch.action)
        edited = composer.edit(learner.actor, batch.state, batch.context, noise, jnp.float32(1))
        return float(composer.value(critic, batch.state, edited.action).mean())

    critic = copy(state).critic
    before = mean_value(state, critic)
    for seed in range(5):
        state, _ = update(state, packed_of(composer, 1, seed), FIXED)
        state = state._replace(critic=jax.tree.map(jnp.copy, critic))
    assert mean_value(state, critic) > before


@pytest.mark.slow
def test_temperature_never_falls_below_its_floor():
    composer = composer_of(
        "rlpd", temperature_floor=0.01, temperature_lr=0.5, entropy_per_dim=-50.0
    )
    update = update_of(composer, True)
    state, _ = update(fresh(composer), packed_of(composer, 1), FIXED)
    assert float(jnp.exp(state.log_alpha)) == pytest.approx(0.01)


@pytest.mark.parametrize("limit", [0.1, 1e3])
def test_clipping_is_optaxs_own(limit):
    grads: Any = {"a": jnp.asarray([3.0, -4.0]), "b": jnp.asarray([[12.0]])}
    theirs, ours = optax.clip_by_global_norm(limit), clip_by_global_norm(limit)
    expected: Any = theirs.update(grads, theirs.init(grads))[0]
    clipped: Any = ours.update(grads, ours.init(grads))[0]
    for name, leaf in expected.items():
        np.testing.assert_allclose(clipped[name], leaf, rtol=1e-6)


def test_noise_drawn_in_a_row_is_that_of_its_shape():
    composer = composer_of("rlpd")
    expected = jax.random.normal(KEY, (5, 3))
    assert (
        np.asarray(composer.noise(KEY, (5, 3), "loss")).tobytes() == np.asarray(expected).tobytes()
    )


@pytest.mark.slow
def test_anchor_ignores_what_no_edit_can_reach():
    far = composer_of(bc_weight=1.0, residual_scale=(0.01,))
    none = composer_of(bc_weight=0.0, residual_scale=(0.01,))
    packed = packed_of(far, 1)
    one, _ = update_of(far, True)(fresh(far), packed, FIXED)
    two, _ = update_of(none, True)(fresh(none), packed, FIXED)
    assert leaves_equal(one.actor, two.actor)


@pytest.mark.slow
def test_critic_step_alone_is_a_pure_function():
    composer = composer_of()
    state = fresh(composer)
    batch = batch_of(composer)
    given = (batch, draw(composer, FIXED, state.step, batch.action.shape))
    first, _ = critic_step(composer, FIXED, state, given)
    second, _ = critic_step(composer, FIXED, state, given)
    assert leaves_equal(first, second)


def test_steps_shrink_to_a_tenth_over_the_last_share_of_the_run():
    composer = composer_of(total_steps=100, warmup=0.1, utd=2.0, lr_decay_fraction=0.5)
    updates = (0, 104, 157, 210, 400)  # of 2 * 100 + 10
    expected = (1.0, 1.0, 0.55, 0.1, 0.1)
    paces = [np.asarray(lr_schedule(composer.config, jnp.int32(step))).item() for step in updates]
    assert paces == pytest.approx(expected, abs=0.01)
    assert lr_schedule(composer_of(total_steps=100).config, jnp.int32(200)) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["critic", "actor"])
def test_a_late_update_moves_each_network_a_tenth_as_far(part):
    composer = composer_of("residual_hil", total_steps=100, lr_decay_fraction=0.5)
    packed = packed_of(composer, 2)

    def moved(step: int) -> np.ndarray:
        before = fresh(composer)._replace(step=jnp.int32(step))
        start = ravel(getattr(before, part))
        after, _ = update_of(composer, True)(before, packed, FIXED)
        return ravel(getattr(after, part)) - start

    sizes = [np.linalg.norm(moved(step)) for step in (0, 1000)]
    assert sizes[1] / sizes[0] == pytest.approx(0.1, rel=0.3)  # other draws, same Adam


def ravel(params: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
