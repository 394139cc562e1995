"""Labels, targets, training and calibration of the risk critic."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made_critic import made_critic, made_episodes

from actor.cli.risk import pipeline
from handrail.config import from_dict
from handrail.errors import CheckpointError, ConfigError, StorageError
from handrail.risk_critic.file import read_critic
from handrail.risk_critic.format import unpack_critic
from handrail.risk_critic.violation import Limits, violates
from learner.risk.calibrate import calibrate, score
from learner.risk.config import RiskConfig
from learner.risk.episodes import Episode, load_episodes, save_episodes, split_episodes, windows_of
from learner.risk.labels import outcomes, ticks_to, window_labels
from learner.risk.metrics import alarm_metrics
from learner.risk.network import Batch, State, bootstrap, init_heads, pessimistic, train_step

FAST = RiskConfig(hidden=(32, 32), steps=600, evaluate_every=100, horizon=0.1, batch=128, tau=0.02)
LIMITS = Limits(force=30.0, tank=0.05, q_low=np.full(7, -2.0), q_high=np.full(7, 2.0))


def test_each_cause_is_a_violation_and_nothing_else_is():
    ticks = 6
    wrench, tank, gate = np.zeros((ticks, 6)), np.ones(ticks), np.ones(ticks)
    q, fault = np.zeros((ticks, 7)), np.zeros(ticks)
    wrench[0, :3] = [0.0, 25.0, -25.0]
    wrench[5, 3:] = 99.0  # a torque is no force
    tank[1], gate[1] = 0.05, 0.4
    tank[2] = 0.05  # empty, but nothing was held back
    q[3, 6], fault[4] = -2.01, 2
    force = np.linalg.norm(wrench[:, :3], axis=1)
    found = violates(LIMITS, force, tank=tank, gate=gate, q=q, fault=fault)
    assert found.tolist() == [True, True, False, True, True, False]
    for t in range(ticks):  # a step is judged by the same rules
        one = {"tank": tank[t], "gate": gate[t], "q": q[t], "fault": fault[t]}
        assert bool(violates(LIMITS, force[t], **one)) == found[t]
    assert not violates(Limits(), 1e9, spent=1e9, tank=0.0, gate=0.0, q=q + 9.0).any()


def test_windows_see_as_far_as_their_ticks():
    violation = np.array([0, 0, 0, 0, 1, 0, 0], bool)
    assert ticks_to(violation).tolist() == [4, 3, 2, 1, 0, math.inf, math.inf]
    assert window_labels(violation, 2).tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert outcomes(violation, 2, 0.5).tolist() == [0.25, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0]


def test_discount_belongs_to_the_horizon_whatever_the_window():
    for window in (0.01, 0.02, 0.05):
        config = RiskConfig(window=window, horizon=0.3)
        per_second = config.discount(0.001) ** (1.0 / window)
        assert per_second == pytest.approx(math.exp(-1.0 / 0.3))


def test_long_violation_counts_only_as_it_begins():
    violation = np.arange(100) >= 50
    episode = Episode(np.zeros((100, 2), np.float32), violation, 0.001)
    windows = windows_of([episode, episode], 10, 0.9)
    assert windows.violates.sum() == 2 * 18  # nine windows that reach it, nine that begin in it
    assert windows.now.max() < 200
    assert np.array_equal((windows.after - windows.now)[~windows.violates], np.full(82, 10))


def test_no_window_reaches_into_the_next_episode():
    episodes = [Episode(np.full((30, 1), i, np.float32), np.zeros(30, bool), 0.001) for i in (0, 1)]
    windows = windows_of(episodes, 10, 0.9)
    assert np.array_equal(windows.features[windows.now], windows.features[windows.after])


@pytest.mark.slow
def test_bootstrap_on_a_chain_of_three_states_meets_its_closed_form():
    """States A → B → C, and C violates: the critic must come to gamma^2, gamma, 1."""
    discount, states = 0.7, jnp.eye(3)
    now = jnp.tile(states, (2, 1, 1))
    after = jnp.tile(states[jnp.array([1, 2, 2])], (2, 1, 1))
    label = jnp.tile(jnp.array([0.0, 0.0, 1.0]), (2, 1))
    optimiser = optax.adamw(3e-3, weight_decay=0.0)
    params = init_heads(jax.random.key(0), 2, 3, (16,))
    state = State(params, params, optimiser.init(params))
    batch = Batch(now, after, label, jnp.ones((2, 3)))
    step = jax.jit(lambda s: train_step(optimiser, s, batch, discount, 0.05)[0])
    for _ in range(3000):
        state = step(state)
    said = np.asarray(pessimistic(state.params, states))
    assert said == pytest.approx([discount**2, discount, 1.0], abs=0.02)


@pytest.mark.slow
def test_target_is_pessimistic_and_ends_at_a_violation():
    assert float(bootstrap(jnp.array(1.0), jnp.array(0.3), 0.9)) == 1.0
    assert float(bootstrap(jnp.array(0.0), jnp.array(0.3), 0.9)) == pytest.approx(0.27)
    params = init_heads(jax.random.key(1), 3, 2, (8,))
    x = jnp.array([[0.3, -2.0]])
    alone = [pessimistic(jax.tree.map(lambda p, i=i: p[i : i + 1], params), x) for i in range(3)]
    assert float(pessimistic(params, x)[0]) == pytest.approx(max(float(a[0]) for a in alone))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("risk")
    results = pipeline.train(made_episodes(60), FAST, out)
    return out, results


@pytest.mark.slow
def test_training_learns_what_can_be_seen_and_keeps_its_promise_on_new_episodes(trained):
    out, results = trained
    critic, _, config = pipeline.load(out)
    held_out = alarm_metrics(critic, score(critic, made_episodes(100, seed=9)), config)
    assert results["guaranteed"]
    assert held_out["auc"] > 0.9
    assert held_out["announced"] > 0.6
    assert held_out["false_alarm_episodes"] < 0.3
    assert held_out["ece"] < 0.1


def test_files_of_a_training_are_whole_and_agree(trained):
    out, results = trained
    array, about = read_critic(out / "critic.safetensors")
    assert json.loads((out / "risk.json").read_text()) == results == about["results"]
    assert unpack_critic(array).threshold_on == pytest.approx(results["threshold_on"], abs=1e-6)
    assert (out / "risk.png").read_bytes()[:4] == b"\x89PNG"
    assert from_dict(RiskConfig, about["config"]) == FAST


@pytest.mark.slow
def test_calibrating_again_uses_only_new_episodes_and_makes_a_newer_critic(trained, tmp_path):
    out, results = trained
    critic, about, config = pipeline.load(out)
    seen = made_episodes(60)
    assert len(pipeline.unseen(seen, about)) == 60 - len(about["trained_on"])
    again = pipeline.recalibrate(made_episodes(60, seed=5), config, tmp_path, critic, about)
    assert again["version"] == results["version"] + 1
    assert pipeline.load(tmp_path)[0].version == again["version"]
    assert pipeline.reevaluate(
        made_episodes(60, seed=5), config, tmp_path, *pipeline.load(tmp_path)[:2]
    )["false_alarms_per_s"] == pytest.approx(again["false_alarms_per_s"], abs=1e-4)


@pytest.mark.parametrize(("keep", "words"), [(True, "no safe|every tick"), (False, "no violation")])
def test_data_of_one_kind_only_is_refused_in_words(tmp_path, keep, words):
    episodes = [e for e in made_episodes(60) if e.violates == keep]
    if keep:
        episodes = [e._replace(violation=np.ones(len(e.violation), bool)) for e in episodes]
    with pytest.raises(ConfigError, match=words):
        pipeline.train(episodes, FAST, tmp_path)
    with pytest.raises(ConfigError, match=r"no safe|no violation"):
        calibrate(made_critic(3), episodes, FAST)


def test_critic_of_other_features_is_refused():
    with pytest.raises(ConfigError, match="22 features"):
        score(made_critic(22), made_episodes(10))


def test_nothing_left_to_judge_by_is_said():
    episodes = made_episodes(4)
    with pytest.raises(ConfigError, match="trained on all 4"):
        pipeline.unseen(episodes, {"trained_on": [pipeline.fingerprint(e) for e in episodes]})


def test_split_keeps_both_kinds_in_every_part():
    episodes = made_episodes(40)
    parts = split_episodes(episodes, 0.2, 0.3, 0)
    assert sum(map(len, parts)) == 40
    for part in parts:
        assert {e.violates for e in part} == {True, False}


def test_episodes_come_back_from_their_file(tmp_path):
    path, episodes = tmp_path / "data" / "a.safetensors", made_episodes(3)
    save_episodes(path, episodes, {"task": "toy"})
    back, about = load_episodes(path)
    assert about["task"] == "toy"
    for a, b in zip(back, episodes, strict=True):
        assert np.array_equal(a.features, b.features)
        assert np.array_equal(a.violation, b.violation)
        assert a.dt == b.dt


@pytest.mark.parametrize("data", [b"", b"not safetensors at all", b"\xff" * 100])
def test_damaged_data_file_is_refused_in_words(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"a\.safetensors"):
        load_episodes(path)


def test_data_with_a_nan_is_not_written(tmp_path):
    (episode,) = made_episodes(1)
    episode.features[5] = np.nan
    with pytest.raises(StorageError, match="NaN"):
        save_episodes(tmp_path / "a.safetensors", [episode], {})
    assert not list(tmp_path.iterdir())


def test_folder_without_a_critic_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no risk critic at"):
        pipeline.load(tmp_path)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"horizn": 1.0}, "did you mean 'horizon'"),
        ({"horizon": 0.01}, "below horizon"),
        ({"validation": 0.6, "calibration": 0.5}, "below 1"),
        ({"hidden": [300]}, "widths"),
        ({"positive": 1.0}, "positive"),
    ],
)
def test_config_is_strict(table, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(RiskConfig, table, "risk")
