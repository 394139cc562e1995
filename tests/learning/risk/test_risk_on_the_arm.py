"""A risk critic from data of the simulated arm: collected, trained and judged by the command."""

import json

import numpy as np
import pytest

from actor.cli.risk.episodes import (
    collect,
    episode_from_signals,
    read_sources,
    signals_from_recording,
)
from actor.cli.risk.pushes import push_episode
from actor.cli.run_folders import create_configured_run
from actor.config import load_config
from controllers.risk import FEATURES, NUM_FEATURES, SCRATCH_SIZE, predict_risk
from handrail.__main__ import main
from handrail.errors import ConfigError, RunFolderError
from handrail.risk_critic.file import read_critic
from handrail.risk_critic.format import unpack_critic
from learner.risk.calibrate import sigmoid
from learner.risk.config import RiskConfig
from learner.risk.episodes import load_episodes
from learner.risk.network import critic_logits
from robot_env.host.core import HostCore
from robot_env.recorder.recorder import Recorder, describe
from robot_env.tasks import make


def spoken(capsys):
    """Return the JSON that a command printed, which is its result."""
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_pushes_are_seen_by_the_critic_as_the_chain_sees_them():
    (episode,) = collect(load_config("peg"), 1, 3)
    assert episode.features.shape == (6000, NUM_FEATURES)
    force = np.linalg.norm(episode.features[:, 12:15], axis=1)
    assert np.array_equal(episode.violation, force > RiskConfig().force_limit)
    speed = episode.features[:, FEATURES["twist"]][:, :3]
    position = episode.features[:, FEATURES["place"]]
    moved = np.diff(position, axis=0) / episode.dt
    # the tool moves as its twist says, but for noise and quantisation of the joints
    assert np.abs(np.cumsum(moved - speed[1:], axis=0)).max() * episode.dt < 1e-3
    stiffness = episode.features[:, FEATURES["stiffness"]]
    assert stiffness.min() >= 0.0
    assert stiffness.max() <= 4000.0


def test_same_seed_gives_the_same_data():
    config = load_config("peg")
    (one,), (other,) = collect(config, 1, 5), collect(config, 1, 5)
    assert np.array_equal(one.features, other.features)


def test_flight_recordings_of_a_run_are_data(tmp_path, capsys):
    config = load_config("peg")
    run = create_configured_run("peg", [], tmp_path / "run")[0]
    core = HostCore(make("peg"), config.robot, config.control)
    about = describe(core.robot.params, config.control, realtime=False)
    recorder = Recorder(run, 6.0, 3, about)
    core.record(recorder)
    ticks = push_episode(core, 3, steps=20)
    recorder.save("asked")
    recorder.close()
    (episode,) = read_sources([run.folder], config.risk)
    wanted = episode_from_signals(signals_from_recording(ticks), config.control, config.risk)
    assert len(wanted.features) == 20 * core.ticks
    np.testing.assert_array_equal(episode.features[-len(wanted.features) :], wanted.features)
    core.close()


def test_sources_without_data_are_refused_in_words(tmp_path):
    with pytest.raises(RunFolderError, match=r"no run\.json"):
        read_sources([tmp_path], RiskConfig())
    create_configured_run("peg", [], tmp_path / "run")
    with pytest.raises(ConfigError, match="risk collect"):
        read_sources([tmp_path / "run"], RiskConfig())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "nowhere.safetensors"], "nowhere.safetensors"),
        (["calibrate", "nowhere.safetensors"], "no risk critic"),
        (["collect", "peg", "--episodes", "1"], "--out FILE"),
        (["collect", "peg", "--episodes", "0", "--out", "x"], "1 or more"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["risk", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_critic_of_the_simulated_arm_tells_violations_before_they_come(tmp_path, capsys):
    data, fresh = tmp_path / "data.safetensors", tmp_path / "fresh.safetensors"
    assert main(["risk", "collect", "peg", "--episodes", "100", "--out", str(data), "--json"]) == 0
    made = spoken(capsys)
    assert 20 <= made["violating"] <= 80
    args = ["risk", "collect", "peg", "--episodes", "40", "--seed", "1000", "--out", str(fresh)]
    assert main(args) == 0
    capsys.readouterr()
    args = ["--risk.hidden", "64", "64", "--risk.steps", "2000", "--json"]
    assert main(["risk", "train", str(data), *args]) == 0
    assert spoken(capsys)["auc"] > 0.8

    assert main(["risk", "plot", str(fresh), "--json"]) == 0
    held_out = spoken(capsys)
    assert held_out["auc"] > 0.8
    assert held_out["false_alarm_episodes"] <= 0.35  # promised 0.1, of about 20 episodes
    assert held_out["false_alarms_per_s"] <= 0.2
    assert held_out["announced"] > 0.2
    assert held_out["ece"] < 0.1
    assert (tmp_path / "risk.png").stat().st_size > 10_000

    assert main(["risk", "calibrate", str(fresh), "--json"]) == 0
    assert spoken(capsys)["version"] == 2
    # what the kernel says of the arm's own ticks is what was judged
    packed, _ = read_critic(tmp_path / "critic.safetensors")
    episodes, _ = load_episodes(fresh)
    work = np.zeros(SCRATCH_SIZE, np.float32)
    rows = episodes[0].features[::50].astype(np.float64)
    said = np.array([predict_risk(packed, row, work) for row in rows])
    assert np.abs(said - sigmoid(critic_logits(unpack_critic(packed), rows).max(0))).max() < 1e-5
