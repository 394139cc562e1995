"""Defaults that follow the ratio of updates to steps, and phases that follow the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.config import load_config, parse_config
from handrail.config import from_dict, to_toml
from handrail.errors import ConfigError
from learner.algo import schedule
from learner.algo.utd_governor import allowed
from learner.config import LearnerConfig
from learner.policy import ramp
from learner.presets import PRESETS, preset
from learner.utd_scaling import MULTIPLE, scaled

REFERENCE = {"utd": 1.0, "batch": 256, "critic_lr": 3e-4, "actor_lr": 1e-4}


def test_eightfold_ratio_halves_batch_and_rates():
    assert scaled(8.0, REFERENCE) == {"batch": 128, "critic_lr": 1.5e-4, "actor_lr": 5e-5}


def test_reference_is_left_as_it_is():
    odd = {**REFERENCE, "batch": 37}
    assert scaled(1.0, odd) == {"batch": 37, "critic_lr": 3e-4, "actor_lr": 1e-4}


@given(st.floats(0.3, 30.0), st.floats(1.05, 3.0))
def test_both_fall_with_the_ratio(utd, more):
    one, two = scaled(utd, REFERENCE), scaled(utd * more, REFERENCE)
    assert two["batch"] <= one["batch"]
    assert two["critic_lr"] < one["critic_lr"] or utd * more > 32.0
    assert two["batch"] % MULTIPLE == 0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_at_its_own_ratio_is_as_published(name):
    plain = from_dict(LearnerConfig, {**PRESETS[name], "preset": name}, "learner")
    assert preset(name) == plain  # type: ignore[arg-type]
    assert preset(name, utd=plain.utd) == plain  # type: ignore[arg-type]


def test_keys_that_are_given_win_one_by_one():
    config = preset("resfit", utd=16.0, batch=100)
    assert (config.batch, config.critic_lr, config.actor_lr) == (100, 1.5e-4, 1.5e-4)
    assert preset("resfit", utd=16.0, critic_lr=3e-4).critic_lr == 3e-4
    assert preset("serl", utd=16.0).batch == 128


def test_command_line_and_file_agree_and_the_resolved_config_shows_it():
    config = load_config("peg", ["--learner.utd", "16"])
    learner = config.learner
    assert (learner.batch, learner.critic_lr, learner.actor_lr) == (64, 5e-4, 5e-4)
    assert learner.utd == 16.0  # peg's own rates are 1e-3, at 2
    written = to_toml(config)
    assert "batch = 64" in written
    assert "critic_lr = 0.0005" in written
    table = {"task": {"name": "peg"}, "learner": {"preset": config.learner.preset, "utd": 16.0}}
    assert parse_config(table).learner.batch == 64
    kept = load_config("peg", ["--learner.utd=16", "--learner.batch", "128"]).learner
    assert (kept.batch, kept.critic_lr) == (128, 5e-4)
    assert load_config("reach", ["--learner.utd", "16"]).learner.critic_lr == 1.5e-4


@pytest.mark.parametrize(
    "wrong", ['preset = ["rlpd"]', 'batch = "many"', 'utd = "two"', "batch = -8"]
)
def test_what_is_wrong_in_a_file_is_said_also_where_the_ratio_is_given(wrong, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(f'[task]\nname = "reach"\n[learner]\n{wrong}\n')
    if wrong.startswith("utd"):  # it is overridden
        assert load_config(str(path), ["--learner.utd", "4"]).learner.utd == 4
        return
    with pytest.raises(ConfigError, match=wrong.split()[0]):
        load_config(str(path), ["--learner.utd", "4"])


def test_resolved_config_is_not_scaled_again():
    import tomllib

    config = load_config("peg", ["--learner.utd", "16"])
    assert parse_config(tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize("utd", ["0", "-1", "many"])
def test_ratio_that_can_not_be_is_refused(utd):
    with pytest.raises(ConfigError, match=r"learner\.utd must be a positive number"):
        load_config("peg", [f"--learner.utd={utd}"])


@pytest.mark.parametrize("factor", [0.1, 3.0, 10.0])
def test_phases_scale_with_the_budget(factor):
    short = LearnerConfig(total_steps=10_000)
    long = replace(short, total_steps=round(10_000 * factor))
    assert schedule.collect_steps(long) == pytest.approx(factor * schedule.collect_steps(short))
    assert schedule.warmup_updates(long) == pytest.approx(factor * schedule.warmup_updates(short))
    made = schedule.critic_updates(short), schedule.critic_updates(long)
    for share in (0.06, 0.1, 0.15, 0.5):
        gains = [
            ramp.residual_gain(
                config,
                ramp.initial_ramp(config),
                round(share * config.total_steps),
                updates,
            )
            for config, updates in zip((short, long), made, strict=True)
        ]
        assert gains[0] == pytest.approx(gains[1])
        counts = [allowed(config, round(share * config.total_steps)) for config in (short, long)]
        assert counts[1] == pytest.approx(factor * counts[0], rel=1e-3)
    assert ramp.residual_gain(long, ramp.initial_ramp(long), 0, 0) == 0.0
    assert ramp.residual_gain(long, ramp.initial_ramp(long), long.total_steps, made[1]) == 1.0


def test_budget_of_a_run_is_the_learners():
    config = load_config("peg", ["--run.steps", "4000", "--learner.collect", "0.05"])
    assert config.learner.total_steps == 4000
    assert schedule.collect_steps(config.learner) == 200
