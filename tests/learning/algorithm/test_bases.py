"""The chunked base: what it is asked, what it hands out, when its training ends."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from handrail.errors import Error
from learner.bases.bc import BCBase
from learner.bases.bc_fit import chunks_of, fit_bc
from learner.bases.queue import ChunkQueue, relabel_episode
from learner.config import BaseConfig
from learner.nets.normaliser import fit, identity

CONFIG = BaseConfig(chunk=4, execute=3, hidden=(32, 32), max_steps=600, evaluate_every=50)
KEY = jax.random.key(0)


class Counting:
    """A base whose chunk says at which state it was asked."""

    chunk, execute = 4, 3

    def __init__(self) -> None:
        self.asked: list[float] = []

    def propose(self, obs, key, carry, noise=None):
        self.asked.append(float(obs[0]))
        steps = np.arange(4, dtype=np.float32)
        return np.stack([np.full(4, obs[0], np.float32), steps], -1), (carry or 0) + 1


def walk(queue: ChunkQueue, steps: range) -> list[tuple[float, int]]:
    contexts = [queue.next(np.asarray([t], np.float32)) for t in steps]
    return [(float(c.action[0]), c.position) for c in contexts]


def test_queue_asks_when_used_up_and_not_before():
    base = Counting()
    handed = walk(ChunkQueue(base, 2), range(7))
    assert base.asked == [0, 3, 6]
    assert handed == [(0, 0), (0, 1), (0, 2), (3, 0), (3, 1), (3, 2), (6, 0)]


def test_flush_asks_again_and_reset_forgets_the_carry():
    base = Counting()
    queue = ChunkQueue(base, 2)
    walk(queue, range(2))
    queue.flush()
    assert walk(queue, range(2, 3)) == [(2, 0)]
    assert queue._carry == 2
    queue.reset()
    assert queue._carry is None


def test_failed_proposal_is_marked_invalid():
    base = Counting()
    base.propose = lambda *_: (np.full((4, 2), np.nan, np.float32), None)  # type: ignore[method-assign]
    context = ChunkQueue(base, 2).next(np.zeros(1, np.float32))
    assert not context.valid
    assert not context.action.any()


def test_no_base_is_marked_invalid():
    context = ChunkQueue(None, 2).next(np.zeros(1, np.float32))
    assert not context.valid


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_relabelling_hands_out_what_a_queue_would(phase):
    states = np.arange(10, dtype=np.float32)[:, None]
    base = Counting()

    def propose(many):
        return np.stack([base.propose(s, None, None)[0] for s in many])

    actions, positions, valid = relabel_episode(propose, states, 3, phase)
    assert valid.all()
    base.asked.clear()
    queue = ChunkQueue(base, 2)
    first = 3 - phase
    expected = walk(queue, range(first))
    queue.flush()
    expected += walk(queue, range(first, 10))
    rolled = [(float(a), int(p)) for a, p in zip(actions[:, 0], positions, strict=True)]
    assert rolled == expected


def test_chunks_stop_at_the_end_of_their_episode():
    state = np.arange(5, dtype=np.float32)[:, None]
    chunks = chunks_of(identity(1), [(state, state.copy())], 3)
    assert chunks.target[:, :, 0].tolist() == [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 4],
        [4, 4, 4],
    ]
    assert chunks.counted.sum(1).tolist() == [3, 3, 3, 2, 1]


def noisy_demos(count: int, noise: float = 0.3, seed: int = 0):
    rng = np.random.default_rng(seed)
    demos = []
    for _ in range(count):
        state = rng.uniform(-1, 1, (30, 3)).astype(np.float32)
        action = np.clip(0.5 * state[:, :2] + rng.normal(0, noise, (30, 2)), -1, 1)
        demos.append((state, action.astype(np.float32)))
    return demos


@pytest.mark.slow
def test_training_stops_at_its_validation_minimum_and_keeps_that():
    demos = noisy_demos(8)
    normaliser = fit(np.concatenate([s for s, _ in demos]), 1e-3)
    rows: list[dict[str, float]] = []
    config = BaseConfig(chunk=1, execute=1, hidden=(64, 64), evaluate_every=50, patience=4)
    _, summary = fit_bc(config, normaliser, np.ones(3, np.float32), demos, KEY, rows.append)
    losses = [row["validation_loss"] for row in rows]
    assert summary["validation_loss"] == min(losses)
    assert summary["steps"] == rows[int(np.argmin(losses))]["step"]
    assert len(rows) == np.argmin(losses) + 1 + config.patience
    assert summary["validation_loss"] < 0.1  # the noise alone is 0.09

    twice = BaseConfig(
        chunk=1, execute=1, hidden=(64, 64), evaluate_every=50, patience=4, train_multiple=2.0
    )
    _, more = fit_bc(twice, normaliser, np.ones(3, np.float32), demos, KEY)
    assert more["steps"] == 2 * summary["steps"]
    assert more["minimum_step"] == summary["steps"]


@pytest.mark.slow
def test_base_acts_on_what_it_was_trained_on():
    demos = [(10.0 * state + 40.0, action) for state, action in noisy_demos(6, noise=0.05)]
    normaliser = fit(np.concatenate([state for state, _ in demos]), 1e-3)
    config = replace(CONFIG, chunk=1, execute=1)
    weights, _ = fit_bc(config, normaliser, np.ones(3, np.float32), demos, KEY)
    base = BCBase(config, 2, weights, normaliser)
    state, action = demos[0]
    errors = [base.propose(s, None, None)[0][0] - a for s, a in zip(state, action, strict=True)]
    assert np.square(errors).mean() < 0.02  # the noise alone is 0.0025, holding still is 0.08


@pytest.mark.slow
def test_base_sees_nothing_of_an_ignored_part():
    demos = noisy_demos(4)
    normaliser = identity(3)
    mask = np.asarray([1, 1, 0], np.float32)
    weights, _ = fit_bc(CONFIG, normaliser, mask, demos, KEY)
    base = BCBase(CONFIG, 2, weights, normaliser)
    state = demos[0][0][0]
    chunk, _ = base.propose(state, None, None)
    other, _ = base.propose(state * mask + 9.0 * (1 - mask), None, None)
    assert np.array_equal(chunk, other)
    assert chunk.shape == (4, 2)
    assert np.abs(chunk).max() <= 1.0


def test_too_few_demonstrations_say_so():
    with pytest.raises(Error, match="at least 2 demonstrations, got 1"):
        fit_bc(CONFIG, identity(3), np.ones(3, np.float32), noisy_demos(1), KEY)
