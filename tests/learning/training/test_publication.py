"""The gate before weights reach the arm: what it refuses, how it recovers, and over a real link."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from made_rows import SPEC, make_episode
from test_trainer import BASE, RESFIT, demos, feed, online, trainer_with

from actor.link.remote import RemoteLearnerClient
from handrail.config import to_dict
from handrail.run_folder import create_run, read_metrics
from learner.algo.action import make_action_composer
from learner.algo.update import init_state
from learner.bases.protocol import BaseContext
from learner.data.holdout import is_held_out
from learner.nets.mlp import Params
from learner.nets.normaliser import identity
from learner.policy.load import load_policy
from learner.policy.policy import Policy
from learner.policy.publish_guard import (
    GuardDecision,
    GuardState,
    ProbeStates,
    action_change,
    check_candidate,
    describe_change,
)
from learner.policy.weights import PolicyWeights
from learner.presets import preset
from learner.service.restore import checkpoint
from learner.service.server import Server
from learner.store.checkpoint import Checkpoints
from learner.trainer import Trainer

COMPOSER = make_action_composer(preset("resfit", hidden=(8, 8), gate_patience=2), SPEC)
ROWS = 16


def weights(bias: float, averaged: float | None = None) -> PolicyWeights:
    """Return weights whose edit is tanh(bias) of its reach everywhere."""
    state = init_state(COMPOSER, SPEC.state, SPEC.action, jax.random.key(0))

    def biased(value: float) -> Params:
        return {**state.actor, "b_out": np.full(SPEC.action, value, np.float32)}

    ema = biased(bias if averaged is None else averaged)
    made = PolicyWeights(biased(bias), ema, None, None, identity(SPEC.state))
    return jax.tree.map(np.asarray, made)


def probe() -> ProbeStates:
    context = BaseContext(
        jax.numpy.zeros((ROWS, SPEC.action)), jax.numpy.zeros(ROWS), jax.numpy.ones(ROWS)
    )
    return ProbeStates(np.zeros((ROWS, SPEC.state), np.float32), context)


def verdicts(biases: list[float], **more: Any) -> list[bool]:
    """Return which candidates pass, one after the other."""
    guard_state, passed = GuardState(), []
    for n, bias in enumerate(biases):
        guard_state, decision = check_candidate(
            COMPOSER, probe(), guard_state, weights(bias), 50 * n, **more
        )
        passed.append(decision.accepted)
    return passed


@pytest.mark.slow
def test_change_is_the_mean_share_of_the_reach_in_closed_form():
    one, two = weights(0.0), weights(0.7)
    assert float(action_change(COMPOSER, probe(), one, two)) == pytest.approx(np.tanh(0.7))
    assert float(action_change(COMPOSER, probe(), two, two)) == 0.0


def test_either_actor_that_jumps_is_a_change():
    still = weights(0.0)
    for jumped in (weights(2.0, averaged=0.0), weights(0.0, averaged=2.0)):
        change = action_change(COMPOSER, probe(), still, jumped)
        assert float(change) == pytest.approx(np.tanh(2.0))


def test_small_steps_pass_however_far_they_lead():
    assert all(verdicts([0.0, 0.3, 0.6, 0.9, 1.3, 2.0]))


def test_jump_is_refused_and_the_way_back_is_open():
    assert verdicts([0.0, 2.0, 0.1]) == [True, False, True]


def test_policy_that_settled_elsewhere_is_believed_after_the_patience():
    assert verdicts([0.0, 2.0, 2.1, 2.2, 2.3]) == [True, False, False, True, True]


def test_policy_that_goes_on_jumping_is_never_believed():
    assert verdicts([0.0] + [2.0, -2.0] * 10) == [True] + [False] * 20


@pytest.mark.parametrize(("updates", "passes"), [(50, False), (105, False), (150, True)])
def test_learner_that_catches_up_may_move_in_proportion_to_its_updates(updates, passes):
    guard_state, _ = check_candidate(COMPOSER, probe(), GuardState(), weights(0.0), 0)
    _, decision = check_candidate(
        COMPOSER, probe(), guard_state, weights(1.2), updates
    )  # tanh(1.2) is 0.83
    assert decision.accepted == passes


def test_weights_that_are_not_finite_are_never_believed():
    assert verdicts([0.0] + [float("nan")] * 10 + [0.0]) == [True] + [False] * 10 + [True]


def test_error_on_held_out_episodes_is_judged_by_the_largest_return():
    limit = COMPOSER.config.gate_td_error
    still = [0.0, 0.0, 0.0, 0.0]
    for error in (2 * limit, float("nan"), float("inf")):
        passed = verdicts(still, td_error=error, largest_return=1.0)
        assert passed == [True, False, False, False]
    assert all(verdicts(still, td_error=2 * limit, largest_return=3.0))
    assert all(verdicts(still, td_error=2 * limit, largest_return=0.0))  # nothing to measure it by


def test_first_weights_pass_if_they_are_finite():
    assert verdicts([3.0], td_error=100.0, largest_return=1.0) == [True]
    assert verdicts([float("inf")]) == [False]


def test_people_are_told_once_when_the_gate_shuts_and_once_when_it_opens():
    yes, no = GuardDecision(True, "", 0.1, 0), GuardDecision(False, "too far", 0.9, 3)
    assert describe_change(None, yes, 1, 10) is None
    assert (
        describe_change(yes, no, 7, 10) == "weights of update 10 refused: too far; the arm keeps v7"
    )
    assert describe_change(no, no, 7, 20) is None
    assert describe_change(no, yes, 8, 30) == "weights accepted again as v8 after 3 refusals"


def test_share_of_held_out_episodes_is_as_asked_and_the_same_each_time():
    episodes = [(actor, episode) for actor in range(2) for episode in range(10_000)]
    held = [is_held_out(0.05, 7, *e) for e in episodes]
    assert held == [is_held_out(0.05, 7, *e) for e in episodes]
    assert abs(np.mean(held) - 0.05) < 4 * (0.05 * 0.95 / len(held)) ** 0.5
    assert held != [is_held_out(0.05, 8, *e) for e in episodes]
    assert not any(is_held_out(0.0, 7, *e) for e in episodes)


def test_held_out_episodes_count_as_steps_and_are_never_trained_on():
    config = replace(RESFIT, holdout=0.4)
    trainer = trainer_with(demos(10) + online(10, 30), config)
    replay = trainer.replay
    held = {e for e in range(40) if is_held_out(0.4, 1, 0, e)}
    assert 0 < len(held) < 40
    assert trainer.env_steps == 300
    trained = np.concatenate([replay.views.online.members(), replay.views.prior_data.members()])
    assert held.isdisjoint(replay.episode[trained])
    assert set(replay.episode[replay.views.holdout.members()]) == held
    drawn = replay.draw(64, np.random.default_rng(0), 50)
    assert held.isdisjoint(replay.episode[drawn])


def test_own_success_that_is_held_out_does_not_join_the_demonstrations():
    config = replace(RESFIT, holdout=0.4, successes_as_demos=True)
    trainer = trainer_with(online(0, 40), config)
    joined = set(trainer.replay.episode[trainer.replay.views.prior_data.members()])
    assert joined
    assert not any(is_held_out(0.4, 1, 0, int(e)) for e in joined)


def poisoned(trainer: Trainer, by: float = 9.0) -> Any:
    """Return the state with an actor that wants full reach everywhere, or what is not finite."""
    state = trainer._state
    return state._replace(actor={**state.actor, "b_out": state.actor["b_out"] + np.float32(by)})


def trained(episodes: int = 4) -> Trainer:
    trainer = trainer_with(demos())
    trainer.fit_base()
    trainer.packet()
    feed(trainer, online(10, episodes))
    trainer.packet()
    return trainer


@pytest.mark.slow
def test_resumed_learner_still_refuses_and_its_folder_gives_the_last_good_policy(tmp_path):
    trainer = trained()
    good = trainer.packet()
    trainer._state = poisoned(trainer)
    assert trainer.packet()[0] == good[0]
    checkpoint(trainer, Checkpoints(tmp_path / "checkpoints"))
    resumed = trainer_with(demos() + online(10, 4))
    resumed.load_state_dict(Checkpoints(tmp_path / "checkpoints").load())
    again = resumed.packet()
    assert again[0] == good[0]
    assert resumed.metrics()["refused"] == 2
    assert all(np.array_equal(again[1][name], good[1][name]) for name in good[1])
    state = np.asarray([0, 1, 1], np.float32)
    expected = Policy(SPEC, trainer.config, trainer.base_config)
    expected.load(*good)
    assert np.array_equal(load_policy(tmp_path).act(state).action, expected.act(state).action)


def test_weights_that_are_not_finite_push_no_checkpoint_out(tmp_path):
    trainer, folder = trained(), Checkpoints(tmp_path)
    assert checkpoint(trainer, folder)
    before = folder.names()
    trainer._state = trainer._state._replace(log_alpha=trainer._state.log_alpha * np.nan)
    assert not checkpoint(trainer, folder)
    assert folder.names() == before


class Learner:
    """A learner's server in a thread, which can be stopped between two updates and go on."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __enter__(self) -> Server:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.server.run, args=(self._stop,))
        self._thread.start()
        return self.server

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def until(link: RemoteLearnerClient, policy: Policy, condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        link.refresh(policy)
        time.sleep(0.01)


@pytest.mark.slow
def test_poisoned_update_never_reaches_an_arm_that_goes_on_stepping(tmp_path):
    run = create_run(tmp_path / "run", "toy", SPEC.hash, "")
    config = {
        "run": {"demos": 4, "publish_steps": 1, "seed": 1},
        "learner": {**to_dict(RESFIT), "gate_patience": 1000},
        "base": to_dict(BASE),
    }
    server = Server(run, config, SPEC)
    link = RemoteLearnerClient(run, SPEC, "arm", 0, lambda: False)
    policy = Policy(SPEC, server.config, BASE)
    try:
        with Learner(server):
            for row in demos():
                link.send(row)
            until(link, policy, lambda: policy.version > 0)
            for row in online(10, 4):
                link.send(row)
            link.wait_for_updates(policy, 40)
        healthy = jax.tree.map(np.array, server.trainer._state)
        version = policy.version
        server.trainer._state = poisoned(server.trainer)
        with Learner(server):
            for row in make_episode(20, 10):
                link.send(row)
            link.wait_for_updates(policy, 50)  # training goes on and says so: the arm isn't held up
            assert policy.version == version
            assert np.isfinite(policy.act(np.zeros(3, np.float32), "explore", 50).action).all()
        assert server.trainer.metrics()["refused"] >= 1
        server.trainer._state = jax.tree.map(jax.numpy.asarray, healthy)
        with Learner(server):
            until(link, policy, lambda: policy.version > version)
    finally:
        link.close()
        server.close()
    events = [row["text"] for row in read_metrics(run.metrics) if row["kind"] == "event"]
    assert len(events) == 2
    assert "actions moved by" in events[0]
    assert events[0].endswith(f"the arm keeps v{version}")
    assert "accepted again" in events[1]
