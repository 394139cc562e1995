"""The action composer: the same action in acting, target and loss; the base's at the start."""

from __future__ import annotations

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handrail.errors import ConfigError
from handrail.spec import EnvSpec
from learner.algo.action import clip_straight_through, make_action_composer
from learner.algo.batch import Batch
from learner.algo.critic import td_target
from learner.algo.update import init_state
from learner.bases.protocol import BaseContext
from learner.config import LearnerConfig, PresetName
from learner.nets.mlp import ensemble, init_ensemble, take_heads
from learner.nets.normaliser import fit, normalise
from learner.presets import PRESETS, expand, preset

SPEC = EnvSpec("t", "t", 10.0, 50, {"x": (0, 5)}, 3, gripper=2)
KEY = jax.random.key(0)


def states(count: int = 7) -> jax.Array:
    return jax.random.normal(KEY, (count, SPEC.state))


def contexts(count: int = 7, valid: float = 1.0) -> BaseContext:
    action = jax.random.uniform(jax.random.key(1), (count, SPEC.action), minval=-1.0)
    return BaseContext(action, jnp.arange(float(count)) % 3, jnp.full(count, valid))


def trained_looking(config: LearnerConfig):
    """Weights whose last layers aren't zero, as after some training."""
    composer = make_action_composer(config, SPEC)
    state = init_state(composer, SPEC.state, SPEC.action, KEY)
    actor = {
        name: leaf + 0.1 * jax.random.normal(KEY, leaf.shape) for name, leaf in state.actor.items()
    }
    return composer, actor, state.critic


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_acting_and_target_agree_on_the_same_noise(name):
    composer, actor, critic = trained_looking(preset(name))
    noise = composer.noise(KEY, (7, SPEC.action), "target")
    judge = critic if composer.config.select == "best" else None
    one = composer.act(actor, judge, states(), contexts(), noise, jnp.float32(0.7))
    single = [
        composer.act(
            actor,
            judge,
            states()[i : i + 1],
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], contexts()),
            noise[i : i + 1],
            jnp.float32(0.7),
        ).action[0]
        for i in range(7)
    ]
    np.testing.assert_allclose(one.action, np.stack(single), atol=1e-6)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_loss_differentiates_the_very_action_that_is_acted(name):
    composer, actor, _ = trained_looking(preset(name, select="edit", samples=0))
    noise = composer.noise(KEY, (7, SPEC.action), "target")
    edited = composer.edit(actor, states(), contexts(), noise, jnp.float32(1))
    acted = composer.act(actor, None, states(), contexts(), noise, jnp.float32(1))
    assert np.array_equal(edited.action, acted.action)


def test_sac_draws_the_same_action_from_the_same_key_in_every_use():
    composer = make_action_composer(preset("rlpd"), SPEC)
    drawn = [composer.noise(KEY, (4, 3), use) for use in ("explore", "target", "loss")]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], drawn[2])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squares", "cross_entropy"])
@pytest.mark.parametrize("name", ["resfit", "residual_hil", "rlpd", "ibrl", "expo", "idql"])
def test_target_values_the_very_action_that_acting_takes(name: PresetName, loss: str):
    made: Any = {"hidden": (8, 8), "num_qs": 3, "num_min_qs": 3, "value_loss": loss}
    made |= {"v_range": (0.0, 1.0)} if loss == "cross_entropy" else {}
    composer, actor, critic = trained_looking(preset(name, **made))
    reward, discount = jnp.full(7, 0.3), jnp.full(7, 0.9)
    batch = Batch(
        *(states(), contexts().action, contexts(), states(), contexts()),
        *(reward, discount, jnp.zeros(7)),
    )
    target, _ = td_target(composer, actor, critic, batch, jnp.float32(0.1), 0.7, KEY)

    key, _ = jax.random.split(KEY)  # heads draw from the other half
    noise = composer.noise(key, (7, SPEC.action), "target")
    candidate_noise = composer.candidate_noise(key, (7, SPEC.action))
    acted = composer.act(actor, critic, states(), contexts(), noise, 0.7, candidate_noise)
    value = composer.value(critic, states(), acted.action).min(0)
    np.testing.assert_allclose(target, reward + discount * value, atol=1e-5)


def test_no_preset_counts_entropy_in_the_value():
    assert not any(preset(name).backup_entropy for name in get_args(PresetName))


@pytest.mark.parametrize("name", ["resfit", "residual_hil", "expo"])
@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0])
def test_noise_free_action_of_a_new_residual_is_the_base_to_the_bit(name, gain):
    composer = make_action_composer(preset(name), SPEC)
    state = init_state(composer, SPEC.state, SPEC.action, KEY)
    noise = composer.noise(KEY, (7, SPEC.action), "eval")
    judge = state.critic if composer.config.select == "best" else None
    acted = composer.act(state.actor, judge, states(), contexts(), noise, jnp.float32(gain))
    assert np.asarray(acted.action).tobytes() == np.asarray(contexts().action).tobytes()
    assert not np.asarray(acted.edit).any()


def test_last_layer_of_a_residual_is_zero_in_kernel_and_bias():
    state = init_state(make_action_composer(preset("resfit"), SPEC), SPEC.state, SPEC.action, KEY)
    assert not np.asarray(state.actor["w_out"]).any()
    assert not np.asarray(state.actor["b_out"]).any()


def test_invalid_base_holds_still():
    composer, actor, _ = trained_looking(preset("resfit"))
    noise = jnp.ones((7, SPEC.action))
    acted = composer.act(actor, None, states(), contexts(valid=0.0), noise, jnp.float32(1))
    assert not np.asarray(acted.action).any()


def test_action_never_leaves_the_box():
    composer, actor, _ = trained_looking(preset("resfit", residual_scale=(1.0,)))
    for use in ("explore", "target", "eval"):
        noise = 3 * composer.noise(KEY, (7, SPEC.action), use)
        acted = composer.act(actor, None, states(), contexts(), noise, jnp.float32(1))
        assert np.abs(acted.action).max() <= 1.0


def test_gain_bounds_how_far_an_edit_reaches():
    composer, actor, _ = trained_looking(preset("resfit", residual_scale=(0.4,)))
    noise = 3 * composer.noise(KEY, (7, SPEC.action), "explore")
    acted = composer.act(actor, None, states(), contexts(), noise, jnp.float32(0.25))
    assert np.abs(acted.action - contexts().action).max() <= 0.1 + 1e-6


def test_gradient_survives_the_clip():
    def loss(x):
        return clip_straight_through(x).sum()

    assert np.array_equal(jax.grad(loss)(jnp.asarray([-3.0, 0.2, 5.0])), [1.0, 1.0, 1.0])
    assert np.array_equal(clip_straight_through(jnp.asarray([-3.0, 5.0])), [-1.0, 1.0])


def test_selection_keeps_the_base_unless_the_heads_agree_on_the_edit():
    timid = make_action_composer(preset("expo", margin=1e6), SPEC)
    _, actor, critic = trained_looking(preset("expo"))
    noise = timid.noise(KEY, (7, SPEC.action), "target")
    acted = timid.act(actor, critic, states(), contexts(), noise, jnp.float32(0.5))
    assert np.array_equal(acted.action, contexts().action)
    bold = make_action_composer(preset("expo"), SPEC)
    acted = bold.act(actor, critic, states(), contexts(), noise, jnp.float32(1))
    edited = bold.edit(actor, states(), contexts(), noise, jnp.float32(1))
    lead = bold.value(critic, states(), edited.action) - bold.value(
        critic, states(), contexts().action
    )
    assert np.array_equal(acted.edited, lead.mean(0) > 0)


@pytest.mark.slow
def test_margin_shrinks_to_nothing_as_the_reach_grows():
    timid, bold = (
        make_action_composer(preset("expo", margin=margin), SPEC) for margin in (3.0, 0.0)
    )
    _, actor, critic = trained_looking(preset("expo"))
    many = (states(200), contexts(200), jnp.zeros((200, SPEC.action)))

    def edited(composer, gain: float) -> int:
        state, context, noise = many
        return int(composer.act(actor, critic, state, context, noise, gain).edited.sum())

    assert edited(timid, 0.01) < edited(timid, 0.9) < edited(bold, 0.9)
    assert edited(timid, 1.0) == edited(bold, 1.0) > 0


def test_young_critics_select_nothing():
    composer, actor, critic = trained_looking(preset("ibrl"))
    noise = composer.noise(KEY, (7, SPEC.action), "explore")
    acted = composer.act(actor, critic, states(), contexts(), noise, jnp.float32(0))
    assert np.array_equal(acted.action, contexts().action)


def test_log_prob_is_that_of_a_squashed_gaussian():
    composer = make_action_composer(preset("rlpd"), SPEC)
    actor = init_state(composer, SPEC.state, SPEC.action, KEY).actor
    state, context = states(1), contexts(1)
    noise = 0.5 * composer.noise(KEY, (1, SPEC.action), "explore")

    def to_edit(eps):
        return composer.edit(actor, state, context, eps[None], jnp.float32(1)).edit[0]

    # p(e) = p(noise) / |d e / d noise|
    jacobian = jax.jit(jax.jacfwd(to_edit))(noise[0])
    gauss = -0.5 * (noise**2).sum() - 0.5 * SPEC.action * np.log(2 * np.pi)
    expected = gauss - np.linalg.slogdet(np.asarray(jacobian))[1]
    edited = composer.edit(actor, state, context, noise, jnp.float32(1))
    np.testing.assert_allclose(edited.log_prob[0], expected, rtol=1e-3)


def test_log_prob_and_its_target_do_not_depend_on_the_reach():
    seen = []
    for residual_scale, gain in ((0.5, 1.0), (0.05, 1.0), (0.5, 0.1)):
        composer, actor, _ = trained_looking(
            preset("residual_hil", residual_scale=(residual_scale,))
        )
        noise = composer.noise(KEY, (7, SPEC.action), "explore")
        edited = composer.edit(actor, states(), contexts(), noise, jnp.float32(gain))
        seen.append((np.asarray(edited.log_prob).tobytes(), composer.num_edited_dims))
    assert seen[0] == seen[1] == seen[2]


def test_gripper_without_reach_stays_the_bases():
    composer, actor, _ = trained_looking(preset("residual_hil", gripper_residual_scale=0.0))
    noise = 3 * composer.noise(KEY, (7, SPEC.action), "explore")
    acted = composer.act(actor, None, states(), contexts(), noise, jnp.float32(1))
    moved = np.abs(acted.action - contexts().action).max(0)
    assert moved[SPEC.gripper] == 0.0
    assert (moved[:2] > 0).all()


def test_entropy_counts_only_dimensions_that_can_move():
    composer = make_action_composer(preset("residual_hil", gripper_residual_scale=0.0), SPEC)
    assert composer.num_edited_dims == 2
    assert composer.residual_scale == (0.5, 0.5, 0.0)


def test_wrong_number_of_scales_is_an_error_that_says_how_many():
    with pytest.raises(ConfigError, match="3 \\(one per action dimension"):
        make_action_composer(preset("resfit", residual_scale=(0.1, 0.2)), SPEC)


def test_normalising_goes_there_and_back():
    rng = np.random.default_rng(0)
    data = rng.normal([0, 5, -3], [0.01, 2, 30], (500, 3)).astype(np.float32)
    normaliser = fit(data, 1e-3)
    scaled = normalise(normaliser, jnp.asarray(data))
    np.testing.assert_allclose(np.mean(scaled, 0), 0, atol=1e-3)
    np.testing.assert_allclose(np.std(scaled, 0), 1, atol=1e-3)
    back = scaled * normaliser.std + normaliser.mean
    np.testing.assert_allclose(back, data, rtol=1e-5, atol=1e-5)


def test_dimension_that_never_moves_is_not_blown_up():
    data = np.full((50, 2), 0.3, np.float32)
    normaliser = fit(data, 1e-2)
    assert np.allclose(normaliser.std, 1e-2)
    moved = normalise(normaliser, jnp.asarray(data[0] + 1e-3))
    assert np.abs(moved).max() < 0.2


def test_normaliser_hash_names_its_content():
    one = fit(np.random.default_rng(0).normal(size=(9, 3)), 1e-3)
    assert one.hash == one._replace(mean=one.mean.copy()).hash
    assert one.hash != one._replace(mean=one.mean + np.float32(1e-3)).hash


@pytest.mark.slow
def test_heads_differ_from_the_start():
    params = init_ensemble(KEY, 5, 4, (16, 16))
    values = np.asarray(ensemble(params, states()[:, :4]))
    for i in range(5):
        for j in range(i):
            assert np.abs(values[i] - values[j]).max() > 1e-3


def test_some_heads_cost_and_give_what_they_do_in_the_whole_ensemble():
    params = init_ensemble(KEY, 5, 4, (16, 16))
    index = jnp.asarray([3, 1])
    some = ensemble(take_heads(params, index), states()[:, :4])
    np.testing.assert_allclose(some, ensemble(params, states()[:, :4])[index], atol=1e-6)


def test_presets_are_changes_of_the_defaults_and_explicit_keys_win():
    assert preset("resfit") == LearnerConfig()
    assert expand({"preset": "rlpd", "actor": "td3"})["actor"] == "td3"
    assert expand({"preset": "rlpd"})["residual_on"] == "zeros"
    with pytest.raises(ConfigError, match="one of resfit"):
        expand({"preset": "rlp"})
