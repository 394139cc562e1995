"""A run is its seed's: neither an evaluation in between nor a restart changes what it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_rows import SPEC, make_episode

from actor.cli.run_folders import create_configured_run
from actor.loop.evaluate import evaluate, policies_to_evaluate
from actor.loop.run_inline import inline_session
from handrail.transition import Source
from learner.config import BaseConfig, PresetName
from learner.policy.policy import Mode, Policy
from learner.presets import preset
from learner.trainer import Trainer

SMALL = ["--learner.num-qs", "2", "--learner.batch", "16", "--learner.hidden", "16", "16"]
QUICK = ["--learner.collect", "0.3", "--base.max-steps", "40", "--learner.utd", "0.2"]
BASE = BaseConfig(chunk=4, execute=4, hidden=(16, 16), max_steps=40)


def trained(name: PresetName, folder: Path, watched: bool) -> dict[str, np.ndarray]:
    """Return what a learner came to whose policy was evaluated in between, or wasn't."""
    words = ["--learner.preset", name, *SMALL, *QUICK, "--run.demos", "4", "--run.steps", "240"]
    run, config = create_configured_run("reach", words, folder)
    with inline_session(run, config) as (session, trainer):
        session.record(config.run.demos)
        session.wait_for_weights()
        for steps in (60, 120, 240):
            session.train(steps)
            if watched:
                drivers = policies_to_evaluate(session.task, session.policy, config.run.seed)
                evaluate(session.env, drivers, range(2), config.run.seed)
    return trainer.state_dict()["arrays"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rlpd", "residual_hil"])
def test_evaluating_in_between_changes_no_bit_of_what_is_learned(name: PresetName, tmp_path: Path):
    alone = trained(name, tmp_path / "alone", watched=False)
    watched = trained(name, tmp_path / "watched", watched=True)
    assert alone.keys() == watched.keys()
    for key, array in alone.items():
        assert array.tobytes() == watched[key].tobytes(), key


def policies(name: PresetName) -> tuple[Policy, Policy]:
    """Return two policies of one seed with the same weights, as if their critics were warm."""
    config = preset(name, hidden=(16, 16), batch=8, total_steps=200, num_qs=3, collect=0.1)
    trainer = Trainer(config, BASE, SPEC, seed=1)
    for row in (row for e in range(4) for row in make_episode(e, 9, Source.DEMO)):
        trainer.add(row)
    trainer.fit_base()
    both = Policy(SPEC, config, BASE, 5), Policy(SPEC, config, BASE, 5)
    meta, arrays = trainer.packet()
    for policy in both:
        policy.load({**meta, "updates": 10_000, "env_steps": 200, "proven": True}, arrays)
    return both


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),  # without noise only the choice among samples is random
    [("rlpd", "explore"), ("residual_hil", "explore"), ("idql", "explore"), ("idql", "noise_free")],
)
def test_a_restarted_actor_draws_what_the_one_before_it_would_have_drawn(
    name: PresetName, mode: Mode
):
    before, restarted = policies(name)
    state = np.asarray([1, 2, 1], np.float32)
    for step in range(30):
        before.act(state, mode, step)
    for step in range(30, 40):
        before.reset()
        restarted.reset()
        expected = before.act(state, mode, step).action
        assert restarted.act(state, mode, step).action.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["rlpd", "resfit"])  # none that may choose the base's action
def test_no_two_steps_draw_the_same_noise(name: PresetName):
    policy, _ = policies(name)
    state = np.asarray([1, 2, 1], np.float32)
    drawn = set()
    for step in range(40):  # before learning and after it began
        policy.reset()
        drawn.add(policy.act(state, "explore", step).action.tobytes())
    assert len(drawn) == 40


def test_an_evaluated_episode_is_of_its_states_and_not_of_what_was_evaluated_before():
    policy, other = policies("idql")
    states = [np.asarray([1, 2, t // 2], np.float32) for t in range(12)]  # each stays a while
    rolled = []
    for acting, before in ((policy, 0), (other, 17)):
        for _ in range(before):
            acting.act(states[0], "eval")
        acting.reset()
        rolled.append([acting.act(state, "eval").action.tobytes() for state in states])
    assert rolled[0] == rolled[1]
    assert len(set(rolled[0])) == 12  # a state that lasts is not answered the same way for ever
