"""What the learner says of its networks, held against planted cases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_rows import SPEC, make_episode
from test_trainer import RESFIT, demos, feed, online, trainer_with

from handrail.transition import Source
from learner import diagnostics
from learner.algo.action import ActionComposer, make_action_composer
from learner.algo.update import LearnerState, UpdateContext, init_state
from learner.data.replay import Replay
from learner.diagnostics import NAMES, dormant_share, draw_returns, draw_sample, weight_norm
from learner.nets.mlp import init_mlp
from learner.nets.normaliser import identity
from learner.presets import preset
from learner.trainer import Trainer

KEY = jax.random.key(3)
FIXED = UpdateContext(KEY, identity(SPEC.state), np.float32(1), np.float32(1))
COMPOSER = make_action_composer(preset("resfit", hidden=(16, 16), discount=0.9), SPEC)


def replay_of(composer: ActionComposer = COMPOSER, success: bool = True) -> Replay:
    """Return two demonstrations, two own episodes, and one that is held out."""
    replay = Replay(composer.config, SPEC)
    for episode in range(5):
        source = Source.DEMO if episode < 2 else Source.ONLINE
        for row in make_episode(episode, 6, source, success=success):
            replay.add(row, held_out=episode == 4)
    return replay


def state_worth(value: float) -> LearnerState:
    """Return a state whose critics, slow ones too, say the same value everywhere."""
    state = init_state(COMPOSER, SPEC.state, SPEC.action, KEY)
    constant = {
        **state.critic,
        "w_out": jnp.zeros_like(state.critic["w_out"]),
        "b_out": jnp.full_like(state.critic["b_out"], value),
    }
    return state._replace(critic=constant, target_critic=constant)


def report(state: LearnerState, replay: Replay) -> dict[str, float]:
    sample = draw_sample(replay, np.random.default_rng(0))
    return diagnostics.report(COMPOSER, state, sample, FIXED)


@pytest.mark.slow
def test_dead_unit_is_counted_and_a_live_network_has_none():
    x = jax.random.normal(KEY, (64, 4))
    params = init_mlp(KEY, 4, (10, 10), 1)
    assert dormant_share(params, x, "relu") == 0.0
    dead = {**params, "scale1": params["scale1"].at[3].set(0.0)}
    dead["shift1"] = params["shift1"].at[3].set(-1.0)
    assert dormant_share(dead, x, "relu") == pytest.approx(1 / 20)


@pytest.mark.parametrize(("share", "counted"), [(0.02, 1 / 10), (0.04, 0.0)])
def test_unit_is_dormant_by_its_share_of_the_layers_mean_activity(share, counted):
    params = init_mlp(KEY, 4, (10,), 1)
    level = jnp.ones(10).at[3].set(share)  # every unit always puts out just its shift
    params |= {"scale0": jnp.zeros(10), "shift0": level / level.mean()}
    assert dormant_share(params, jax.random.normal(KEY, (8, 4)), "relu") == pytest.approx(counted)


def test_layer_that_is_silent_is_dormant_as_a_whole():
    params = init_mlp(KEY, 4, (10, 10), 1)
    params |= {"scale1": jnp.zeros(10), "shift1": jnp.zeros(10)}
    assert dormant_share(params, jax.random.normal(KEY, (8, 4)), "relu") == pytest.approx(0.5)


def test_norm_is_that_of_all_weights_together():
    assert weight_norm({"a": jnp.full((2, 2), 3.0), "b": jnp.full(7, 2.0)}) == pytest.approx(8.0)


@pytest.mark.slow
def test_bias_of_a_critic_is_its_value_minus_the_discounted_return():
    returns = np.mean(0.9 ** np.arange(5, -1, -1))  # of the six steps of each recent episode
    values = report(state_worth(2.0), replay_of())
    assert values["q_bias"] == pytest.approx(2.0 - values["mc_return"], abs=1e-5)
    assert values["mc_return"] == pytest.approx(returns, abs=0.1)
    assert values["q_bias"] > 1.0
    assert report(state_worth(-1.0), replay_of())["q_bias"] < -1.0


def test_episode_that_time_cut_is_worth_what_comes_after_it_too():
    replay = replay_of(success=False)
    start = np.flatnonzero((replay.episode == 3) & ~replay.end)
    rows, finished = draw_returns(replay, start)
    assert finished.all()
    np.testing.assert_allclose(rows.extra[:, 0], 0.0)
    np.testing.assert_allclose(rows.extra[:, 1], 0.9 ** np.arange(6, 0, -1), rtol=1e-5)
    # a critic that says 2 everywhere is off by what it should have lost to the discount
    values = report(state_worth(2.0), replay)
    assert values["q_bias"] == pytest.approx(2.0 - values["mc_return"], abs=1e-5)
    assert 0.0 < values["q_bias"] < 2.0


def test_episode_that_is_not_finished_says_nothing_about_bias():
    replay = Replay(COMPOSER.config, SPEC)
    for row in make_episode(0, 6)[:4]:
        replay.add(row)
    assert not draw_returns(replay, replay.views.online.members())[1].any()
    assert {"q_bias", "mc_return", "td_holdout", "td_gap"}.isdisjoint(
        report(state_worth(0.0), replay)
    )


def test_error_on_held_out_episodes_is_of_these_alone():
    """Constant critics of 1: an n-step target errs by 1 - discount^k, or by what the end pays."""
    replay = replay_of()
    slots = np.flatnonzero((replay.episode == 4) & ~replay.end)
    assert set(replay.views.holdout.members()) == set(slots)
    windows = replay.windows(slots)
    errors = np.abs(1.0 - windows.reward - windows.discount)
    values = report(state_worth(1.0), replay)
    assert min(errors) - 1e-6 <= values["td_holdout"] <= max(errors) + 1e-6
    rows = diagnostics.draw_rows(replay, slots)
    exact = diagnostics.td_error(COMPOSER, state_worth(1.0), rows, FIXED)
    assert float(exact) == pytest.approx(errors.mean(), abs=1e-6)
    assert values["td_gap"] == pytest.approx(values["td_holdout"] - values["td_train"], abs=1e-6)


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = trainer_with(demos(8))
    trainer.fit_base()
    feed(trainer, online(10, 6))
    return trainer


@pytest.mark.slow
def test_report_changes_nothing_and_is_compiled_once(trained):
    before = trained.state_dict()["arrays"]
    first = trained.diagnose()
    after = trained.state_dict()["arrays"]
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())
    compiled = diagnostics.diagnose._cache_size()  # type: ignore[attr-defined]
    assert trained.diagnose() == first
    feed(trained, online(20, 1))
    assert set(trained.diagnose()) <= set(NAMES)
    assert diagnostics.diagnose._cache_size() == compiled  # type: ignore[attr-defined]
    assert set(first) >= {"td_train", "q_bias", "dormant_critic", "norm_actor"}
    assert trained.compilations == 2


def test_nothing_is_said_before_the_first_update():
    assert trainer_with(demos(), RESFIT).diagnose() == {}
