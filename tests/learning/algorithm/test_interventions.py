"""What a person's help does to returns, weights and records, in closed form."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from made_rows import SPEC, make_episode
from test_bases import Counting
from test_env import make_env

from actor.config import load_config
from actor.loop.episode import ActionRecord, run_episode
from benchmarks.interventions import VARIANTS, Trial, run_suite, tables
from handrail.errors import ConfigError
from handrail.transition import Source, Transition
from learner.bases.queue import ChunkQueue
from learner.config import LearnerConfig
from learner.data.replay import Replay

G = 0.9
CONFIG = LearnerConfig(discount=G, n_step=3, capacity=1000)
TERMINAL: dict[str, Any] = {"at_takeover": "terminal"}
COST: dict[str, Any] = {"at_takeover": "terminal", "takeover_cost": 0.5}
RLIF: dict[str, Any] = {"takeover_cost": 1.0, "reward": "interventions"}


def helped(driven: tuple[int, ...] = (3, 4, 5), length: int = 8) -> list[Transition]:
    """Return a successful episode, some steps of which a person drove."""
    return [replace(row, intervened=row.t in driven) for row in make_episode(0, length)]


def filled(rows: list[Transition], **changes: Any) -> Replay:
    replay = Replay(replace(CONFIG, **changes), SPEC)
    for row in rows:
        replay.add(row)
    return replay


@pytest.mark.parametrize(
    ("changes", "start", "reward", "discount", "length"),
    [
        ({}, 2, 0.0, G**3, 3),
        ({}, 5, G**2, 0.0, 3),
        ({"at_takeover": "cut"}, 1, 0.0, G**2, 2),
        ({"at_takeover": "cut"}, 2, 0.0, G, 1),
        ({"at_takeover": "cut"}, 4, 0.0, G**2, 2),
        (TERMINAL, 0, 0.0, 0.0, 3),
        (TERMINAL, 2, 0.0, 0.0, 1),
        (TERMINAL, 4, 0.0, G**2, 2),  # what follows the hand-back is the policy's own doing
        (COST, 0, -0.5 * G**2, 0.0, 3),
        (COST, 2, -0.5, 0.0, 1),
        (COST, 5, 0.0, G, 1),
        (RLIF, 1, -G, G**3, 3),
        (RLIF, 3, 0.0, G**3, 3),
        (RLIF, 5, 0.0, 0.0, 3),
    ],
)
def test_window_at_a_change_of_hands(changes, start, reward, discount, length):
    windows = filled(helped(), **changes).windows(np.asarray([start]))
    assert windows.reward[0] == pytest.approx(reward)
    assert windows.discount[0] == pytest.approx(discount)
    assert windows.length[0] == length


def values_of(**changes: Any) -> np.ndarray:
    """Return the value of each step of the helped episode: the backup's fixed point."""
    replay = filled(helped(), **changes)
    slots = np.arange(8)
    windows, value = replay.windows(slots), np.zeros(CONFIG.capacity)
    for _ in range(50):
        value[slots] = windows.reward + windows.discount * value[windows.bootstrap]
    return value[slots]


OWN = np.arange(3)  # steps before the take-over
AFTER = np.arange(3, 8)  # steps from the take-over to the success


@pytest.mark.parametrize("n_step", [1, 3, 10])
@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({}, G ** (7.0 - OWN), G ** (7.0 - AFTER)),
        ({"at_takeover": "cut"}, G ** (7.0 - OWN), G ** (7.0 - AFTER)),
        (TERMINAL, 0.0 * OWN, G ** (7.0 - AFTER)),
        (COST, -0.5 * G ** (2.0 - OWN), G ** (7.0 - AFTER)),
        (RLIF, -(G ** (2.0 - OWN)), 0.0 * AFTER),
    ],
)
def test_value_of_being_stuck_and_of_being_helped(changes, before, after, n_step):
    values = values_of(n_step=n_step, **changes)
    np.testing.assert_allclose(values[OWN], before, atol=1e-6)
    np.testing.assert_allclose(values[AFTER], after, atol=1e-6)


def test_help_from_the_first_step_costs_nothing_that_was_not_there():
    windows = filled(helped((0, 1)), **COST).windows(np.arange(8))
    assert (windows.reward >= 0).all()


def test_return_of_an_episode_counts_its_take_overs():
    replay = filled(helped(), **COST)
    assert replay.mc_return[0] == pytest.approx(G**7 - 0.5 * G**2)
    assert filled(helped(), **RLIF).largest_return == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("driven", "steps", "flagged"),
    [
        ((3, 4, 5), 2, [1, 2]),
        ((3, 4, 5), 0, []),
        ((3, 4, 5), 9, [0, 1, 2]),
        ((2, 4), 2, [0, 1, 3]),  # a person's own steps are never the ones that led to trouble
        ((0, 1), 3, []),
    ],
)
def test_steps_that_led_to_a_take_over_are_flagged(driven, steps, flagged):
    replay = filled(helped(driven), pre_intervention_steps=steps)
    assert np.flatnonzero(replay.pre_intervention).tolist() == flagged


def test_flag_does_not_outlive_its_row_in_the_ring():
    replay = filled(helped(), pre_intervention_steps=2)
    for episode in range(1, 200):
        for row in make_episode(episode, 8):
            replay.add(row)
    assert not replay.pre_intervention.any()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_flagged_steps_are_drawn_by_their_weight(weight):
    replay = filled(
        helped(), pre_intervention_steps=2, pre_intervention_weight=weight, demo_fraction=0.0
    )
    count = 40_000
    drawn = replay.draw(count, np.random.default_rng(0))
    expected = 2 * weight / (2 * weight + 6)  # 2 flagged of 8 steps
    deviation = (expected * (1 - expected) / count) ** 0.5
    assert abs(replay.pre_intervention[drawn].mean() - expected) <= 5 * deviation
    others = np.bincount(drawn, minlength=8)[[0, 3, 4, 5, 6, 7]] / count
    assert np.abs(others - (1 - expected) / 6).max() < 0.01


def test_draw_ends_where_everything_is_flagged():
    replay = filled(
        helped((3,), 4), pre_intervention_steps=3, pre_intervention_weight=0.0, demo_fraction=0.0
    )
    replay.views.online.remove(3)
    assert len(replay.draw(8, np.random.default_rng(0))) == 8


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_share_of_interventions_is_as_asked_however_few_there_are(share, count):
    demos = [row for episode in range(1, 20) for row in make_episode(episode, 30, Source.DEMO)]
    replay = filled(demos + helped(), intervention_share=share)
    drawn = replay.draw(16, np.random.default_rng(0), 10).reshape(10, 16)
    assert (replay.intervened[drawn[:, :8]].sum(1) == count).all()
    assert (replay.source[drawn[:, :8]] == Source.DEMO).sum() == 10 * (8 - count)


def test_without_interventions_or_without_demonstrations_the_other_fills_in():
    rng = np.random.default_rng(0)
    only_demos = filled(make_episode(0, 8, Source.DEMO), intervention_share=0.5)
    assert (only_demos.source[only_demos.draw(8, rng)] == Source.DEMO).all()
    only_help = filled(helped(), intervention_share=0.5)
    assert only_help.intervened[only_help.draw(8, rng)[:4]].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"takeover_cost": -1.0}, "takeover_cost must be non-negative"),
        (
            {"takeover_cost": 0.5, "v_range": (0.0, 1.0)},
            r"v_range must be from -0\.5 or lower: a take-over costs that much",
        ),
        ({"reward": "interventions"}, "takeover_cost must be positive with reward"),
        ({"pre_intervention_steps": -1}, "pre_intervention_steps must be non-negative"),
        ({"pre_intervention_weight": 1.5}, r"pre_intervention_weight must be within 0 \.\. 1"),
        ({"intervention_share": 2.0}, r"intervention_share must be within 0 \.\. 1"),
    ],
)
def test_what_can_not_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_variant_of_the_benchmark_is_a_config_that_differs_from_the_default(variant):
    plain = load_config("assemble", ["--operator.enabled"])
    changed = load_config("assemble", ["--operator.enabled", *(VARIANTS[variant] or [])])
    assert (changed == plain) == (variant in ("alone", "terminal"))


def test_suite_runs_what_has_no_result_yet_and_the_table_compares_seed_by_seed(tmp_path):
    found = [Trial(v, "peg_far", "residual_hil", s, 50) for v in ("through", "cut") for s in (0, 1)]
    shares = [0.5, 0.5, 0.75, 0.5]
    plain = {"auc": 0.25, "steps_to_80": None, "failures": 4, "interventions": 2, "human_steps": 9}
    rows = [{**asdict(t), "success": x, **plain} for t, x in zip(found, shares, strict=True)]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run_suite(found, 1, path, []) == 0  # nothing is missing, so nothing is run
    text = tables(rows)
    assert "### peg_far, `residual_hil`, 50 steps" in text
    assert "| `cut` | 2 | 0.62 (0.50–0.75) |" in text
    assert text.splitlines()[-1].endswith("| 1 / 0 |")


class Queued:
    """Drives by a base's chunks and notes when they are dropped."""

    def __init__(self, actions: int) -> None:
        self.base, self.actions = Counting(), actions
        self.queue = ChunkQueue(self.base, actions)

    def reset(self) -> None:
        self.queue.reset()

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> ActionRecord:
        context = self.queue.next(observation["state"])
        return ActionRecord(
            np.full(self.actions, 0.1, np.float32),
            context._replace(action=np.zeros(self.actions, np.float32)),
        )

    def flush(self) -> None:
        self.queue.flush()


class Helper:
    """Holds the arm in some steps."""

    def __init__(self, steps: set[int], action: np.ndarray) -> None:
        self.steps, self.action = steps, action

    def resume(self, steps: int, takeovers: int, episodes: int) -> None:
        pass

    def reset(self, noise_free: bool = False) -> None:
        self.t = -1

    def read(self, observation: dict[str, Any], info: dict[str, Any]) -> np.ndarray | None:
        self.t += 1
        return self.action if self.t in self.steps else None


def test_chunk_is_dropped_at_each_change_of_hands_and_the_persons_action_is_what_is_stored():
    env = make_env(horizon=12)
    actions, rows = env.task.spec.action, []
    hand = np.full(actions, 3.0)  # beyond the box: what is executed is clipped
    helper = Helper({4, 5, 6, 7}, hand)
    driver = Queued(actions)
    result = run_episode(
        env, driver, seed=0, episode=0, source=Source.ONLINE, sink=rows.append, intervener=helper
    )
    env.close()
    driven = [row.t for row in rows if row.intervened]
    assert driven == [4, 5, 6, 7]
    assert (result.takeovers, result.human_steps, result.autonomous) == (1, 4, False)
    # chunks are of 3 steps: 0 1 2 | 0 then the person: 0 1 2 | 0 then the policy: 0 1 2 | 0
    positions = [row.base_pos for row in rows]
    assert positions == [0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 1]
    for row in rows[:-1]:
        expected = 1.0 if row.intervened else 0.1
        np.testing.assert_allclose(row.action, expected)
        np.testing.assert_allclose(row.policy_action, 0.1)
    replay = Replay(replace(CONFIG, demo_fraction=0.5), env.task.spec)
    for row in rows:
        replay.add(row)
    assert sorted(replay.views.prior_data.members()) == [4, 5, 6, 7]
    assert sorted(replay.views.online.members()) == list(range(12))
    np.testing.assert_allclose(
        replay.actions(np.asarray([4, 8])), [[1.0] * actions, [0.1] * actions]
    )
