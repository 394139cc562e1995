"""Windows, views and returns: nothing ever crosses what separates two steps."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import SPEC, make_episode, make_row

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import Error
from handrail.transition import Source
from learner.algo.batch import unpack
from learner.config import LearnerConfig
from learner.data.replay import Replay

CONFIG = LearnerConfig(discount=0.9, n_step=3, capacity=1000)


def filled(rows, **changes) -> Replay:
    replay = Replay(replace(CONFIG, **changes), SPEC)
    for row in rows:
        replay.add(row)
    return replay


def fixed_point(replay: Replay, sweeps: int = 3000) -> np.ndarray:
    """Return the value of each slot by iterating the sampled backup to its fixed point."""
    slots = replay.views.online.members()
    windows = replay.windows(slots)
    value = np.zeros(replay.config.capacity)
    for _ in range(sweeps):
        value[slots] = windows.reward + windows.discount * value[windows.bootstrap]
        value[replay.end] = value[0]  # a chain of identical states: time's end looks like its start
    return value[slots]


@pytest.mark.parametrize("n_step", [1, 3, 7])
def test_value_of_a_chain_cut_by_time_is_that_of_the_endless_one(n_step):
    replay = filled(make_episode(0, 5, success=False, reward=1.0), n_step=n_step)
    np.testing.assert_allclose(fixed_point(replay), 1 / (1 - 0.9), rtol=1e-5)


@pytest.mark.parametrize("n_step", [1, 3, 7])
def test_value_of_a_chain_that_ends_in_success_is_the_discounted_reward(n_step):
    replay = filled(make_episode(0, 5), n_step=n_step)
    np.testing.assert_allclose(fixed_point(replay), 0.9 ** np.arange(4, -1, -1), rtol=1e-5)


@pytest.mark.parametrize("n_step", [1, 3, 7])
def test_a_price_per_step_is_paid_until_success_or_for_ever(n_step):
    paid = [replace(row, reward=-1.0) for row in make_episode(0, 5)]
    expected = -(1 - 0.9 ** np.arange(5, 0, -1)) / (1 - 0.9)
    np.testing.assert_allclose(fixed_point(filled(paid, n_step=n_step)), expected, rtol=1e-5)
    cut = filled(make_episode(0, 5, success=False, reward=-1.0), n_step=n_step)
    np.testing.assert_allclose(fixed_point(cut), -1 / (1 - 0.9), rtol=1e-5)


def test_timeout_ends_the_backup_only_if_it_is_declared_a_failure():
    rows = make_episode(0, 4, success=False)
    assert filled(rows).windows(np.asarray([3])).discount == pytest.approx(0.9)
    assert filled(rows, timeout_is_failure=True).windows(np.asarray([3])).discount == 0.0


def test_discount_counts_the_steps_that_were_taken():
    windows = filled(make_episode(0, 5, success=False)).windows(np.arange(5))
    assert windows.length.tolist() == [3, 3, 3, 2, 1]
    np.testing.assert_allclose(windows.discount, [0.9**3, 0.9**3, 0.9**3, 0.9**2, 0.9], rtol=1e-6)


def test_every_held_success_ends_the_backup():
    rows = [make_row(0, t, reward=float(t >= 2), success=t >= 2) for t in range(5)]
    windows = filled([*rows, make_row(0, 5, end=True)]).windows(np.arange(5))
    assert (windows.discount == 0).tolist() == [True] * 5
    np.testing.assert_allclose(windows.reward, [0.81, 0.9, 1, 1, 1], rtol=1e-6)


def test_step_without_successor_is_not_sampled():
    replay = filled([make_row(0, 0), make_row(0, 1)])
    assert replay.views.online.members().tolist() == [0]
    replay.add(make_row(0, 2))
    assert sorted(replay.views.online.members()) == [0, 1]


def test_terminal_step_needs_no_successor():
    replay = filled([make_row(0, 0), make_row(0, 1, terminated=True, reward=1.0)])
    assert sorted(replay.views.online.members()) == [0, 1]
    assert replay.windows(np.asarray([1])).discount == 0.0


def test_lost_row_separates():
    rows = make_episode(0, 6)
    replay = filled(rows[:2] + rows[3:])
    windows = replay.windows(np.asarray([0]))
    assert windows.length == 1
    assert 1 not in replay.views.online


def test_demonstrations_are_never_evicted():
    replay = filled(make_episode(0, 20, Source.DEMO))
    for episode in range(1, 200):
        for row in make_episode(episode, 9):
            replay.add(row)
    assert replay.protected == 21
    assert len(replay.episodes(Source.DEMO)[0]) == 21
    assert len(replay.views.prior_data) == 20


def test_full_of_demonstrations_is_an_error():
    rows = [row for episode in range(200) for row in make_episode(episode, 9, Source.DEMO)]
    with pytest.raises(Error, match=r"raise learner\.capacity"):
        filled(rows)


def test_intervention_is_in_both_views_and_autonomy_in_one():
    rows = [make_row(0, t, intervened=t in (2, 3)) for t in range(6)]
    replay = filled(rows)
    assert sorted(replay.views.online.members()) == [0, 1, 2, 3, 4]
    assert sorted(replay.views.prior_data.members()) == [2, 3]


def test_own_successes_join_the_demonstrations_if_asked():
    rows = make_episode(0, 4) + make_episode(1, 4, success=False)
    assert len(filled(rows).views.prior_data) == 0
    assert sorted(filled(rows, successes_as_demos=True).views.prior_data.members()) == [0, 1, 2, 3]


def test_batch_has_its_share_of_each_view():
    replay = filled(make_episode(0, 9, Source.DEMO) + make_episode(1, 9))
    now, nxt, extra = replay.sample(8, np.random.default_rng(0), batches=3)
    assert now.shape == nxt.shape == (3, 8, replay.columns)
    assert extra.shape == (3, 8, 2)
    assert (now[..., -1] == ([1] * 4 + [0] * 4)).all()


def test_minibatches_of_one_call_are_draws_of_their_own():
    replay = filled(make_episode(0, 50, Source.DEMO) + make_episode(1, 50))
    now, _, _ = replay.sample(8, np.random.default_rng(0), batches=4)
    assert len({minibatch.tobytes() for minibatch in now}) == 4


@pytest.mark.slow
def test_bases_context_is_what_was_stored_also_where_the_return_goes_on():
    rows = [
        replace(
            row,
            base_action=np.asarray([row.episode, row.t], np.float32) / 64,
            base_pos=row.t,
            intervened=3 <= row.t < 6,
        )
        for row in make_episode(0, 9, Source.DEMO) + make_episode(1, 9, success=False)
    ]
    now, nxt, extra = map(jnp.asarray, filled(rows).sample(64, np.random.default_rng(0)))
    batch = unpack(now[0], nxt[0], extra[0], SPEC.state, SPEC.action)
    goes_on = np.asarray(batch.discount) > 0
    for context, state, kept in (
        (batch.context, batch.state, np.ones(64, bool)),
        (batch.next_context, batch.next_state, goes_on),
    ):
        np.testing.assert_array_equal(context.action[kept] * 64, state[kept, :2])
        np.testing.assert_array_equal(context.position[kept], state[kept, 1])
    assert (batch.next_state[goes_on, 1] == 9).any()  # the end row among them


def test_empty_replay_says_so():
    with pytest.raises(Error, match="no complete step"):
        Replay(CONFIG, SPEC).sample(8, np.random.default_rng(0))


def say(verdict: Outcome, episode: int = 0) -> EpisodeLabel:
    return EpisodeLabel("arm", episode, verdict)


def test_late_label_patches_the_backup():
    replay = filled(make_episode(0, 4, success=False))
    assert replay.label(say(Outcome.SUCCESS))
    windows = replay.windows(np.asarray([2]))
    assert (windows.reward, windows.discount) == (pytest.approx(0.9), 0.0)
    np.testing.assert_allclose(replay.mc_return[:4], 0.9 ** np.arange(3, -1, -1), rtol=1e-6)
    assert replay.label(say(Outcome.SUCCESS))  # said twice is said once
    assert replay.reward[3] == 1.0
    assert replay.label(say(Outcome.FAILURE))
    assert replay.windows(np.asarray([2])).discount == pytest.approx(0.81)
    np.testing.assert_array_equal(replay.mc_return[:4], 0)
    assert not replay.label(say(Outcome.SUCCESS, 7))


def test_an_aborted_episode_is_never_sampled_until_another_label_says_otherwise():
    replay = filled(make_episode(0, 4) + make_episode(1, 4))
    replay.label(say(Outcome.ABORT))
    assert set(replay.episode[replay.draw(64, np.random.default_rng(0))]) == {1}
    replay.label(say(Outcome.SUCCESS))
    assert set(replay.episode[replay.draw(64, np.random.default_rng(0))]) == {0, 1}
    demos = filled(make_episode(0, 4, Source.DEMO) + make_episode(1, 4, Source.DEMO))
    demos.label(say(Outcome.ABORT, 1))
    assert [int(demos.episode[slots[0]]) for slots in demos.episodes(Source.DEMO)] == [0]


@pytest.mark.parametrize("verdict", list(Outcome))
@pytest.mark.parametrize("place", range(12))
def test_a_label_means_the_same_whenever_it_comes(verdict: Outcome, place: int):
    rows = make_episode(0, 4, success=False) + make_episode(1, 4)
    late = filled(rows, successes_as_demos=True)
    late.label(say(verdict))
    early = Replay(replace(CONFIG, successes_as_demos=True), SPEC)
    for index, row in enumerate(rows):
        if index == place:
            early.label(say(verdict))
        early.add(row)
    if place >= len(rows):
        early.label(say(verdict))
    for name in ("reward", "success", "terminated", "mc_return", "aborted"):
        np.testing.assert_array_equal(getattr(early, name), getattr(late, name), name)
    for name in ("online", "prior_data", "demonstrations"):
        one, other = (getattr(r.views, name).members() for r in (early, late))
        assert sorted(one) == sorted(other), name


def test_monte_carlo_return_is_the_discounted_sum():
    replay = filled(make_episode(0, 4))
    np.testing.assert_allclose(replay.mc_return[:4], 0.9 ** np.arange(3, -1, -1), rtol=1e-6)


@pytest.mark.parametrize(
    ("at_takeover", "length", "discount"),
    [("through", 3, 0.729), ("cut", 2, 0.81), ("terminal", 2, 0.0)],
)
def test_backup_across_a_change_of_hands_is_as_configured(at_takeover, length, discount):
    rows = [make_row(0, t, intervened=t >= 2) for t in range(6)]
    windows = filled(rows, at_takeover=at_takeover).windows(np.asarray([0]))
    assert (windows.length[0], windows.discount[0]) == (length, pytest.approx(discount))


def test_interleaved_actors_keep_their_own_episodes():
    replay = Replay(CONFIG, SPEC)
    queues = [deque(make_episode(e, 7)) for e in (0, 1)]
    while any(queues):
        for actor, queue in enumerate(queues):
            if queue:
                replay.add(queue.popleft(), actor)
    slots = replay.views.online.members()
    windows = replay.windows(slots)
    assert len(slots) == 14
    same = replay.states(slots)[:, 0] == replay.states(windows.bootstrap)[:, 0]
    assert same.all()


@st.composite
def streams(draw):
    """Episodes of random length and end, with lost rows, enough to wrap the ring."""
    rows = []
    for episode in range(draw(st.integers(1, 40))):
        source = Source.DEMO if draw(st.integers(0, 9)) == 0 else Source.ONLINE
        made = make_episode(episode, draw(st.integers(1, 60)), source, success=draw(st.booleans()))
        lost = draw(st.sets(st.integers(0, len(made) - 1), max_size=3))
        rows += [row for i, row in enumerate(made) if i not in lost]
    return rows


def test_a_slot_that_is_written_over_starts_no_window_before_its_successor_is_known():
    whole = [row for episode in range(100) for row in make_episode(episode, 9)]  # 10 rows each
    replay = filled(whole)
    assert len(replay) == replay.config.capacity == len(whole)
    first, second = make_episode(100, 9)[:2]
    slot = replay.add(first)
    assert slot not in replay.views.online
    replay.add(second)
    assert slot in replay.views.online


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(rows=streams(), n_step=st.integers(1, 6))
def test_no_window_crosses_an_end_a_gap_or_the_wrap(rows, n_step):
    replay = filled(rows, n_step=n_step)
    held_out: dict[tuple[int, int], Any] = {}
    for row in rows:
        held_out[(row.episode, row.t)] = row
    for view in (replay.views.online, replay.views.prior_data):
        slots = view.members()
        if len(slots) == 0:
            continue
        windows = replay.windows(slots)
        for slot, reward, discount, end, k in zip(slots, *windows, strict=True):
            episode, t = (int(x) for x in replay.states(np.asarray(slot))[:2])
            steps: list[Any] = [held_out.get((episode, t + i)) for i in range(int(k))]
            assert all(step is not None and not step.end for step in steps)
            assert 1 <= k <= n_step
            assert reward == pytest.approx(sum(0.9**i * s.reward for i, s in enumerate(steps)))
            assert not any(s.terminated for s in steps[:-1])
            if steps[-1].terminated:
                assert discount == 0.0
                continue
            assert discount == pytest.approx(0.9 ** int(k))
            assert replay.states(np.asarray(end))[:2].tolist() == [episode, t + k]
            if k < n_step:  # shortened only where nothing more is known
                after: Any = held_out.get((episode, t + int(k)))
                assert after.end or (episode, t + int(k) + 1) not in held_out


@settings(max_examples=30, deadline=None)
@given(
    rows=streams(),
    hands=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    at_takeover=st.sampled_from(["through", "cut", "terminal"]),
)
def test_windows_of_intervened_rows_stay_in_their_episode_and_hands(rows, hands, at_takeover):
    turns = [i % 2 == 1 for i, steps in enumerate(hands) for _ in range(steps)]
    rows = [
        replace(row, intervened=turns[i % len(turns)] and not row.end) for i, row in enumerate(rows)
    ]
    replay = filled(rows, at_takeover=at_takeover)
    driven = {(row.episode, row.t): row.intervened for row in rows if not row.end}
    slots = replay.views.prior_data.members()
    windows = replay.windows(slots)
    for slot, _, discount, end, k in zip(slots, *windows, strict=True):
        episode, t = (int(x) for x in replay.states(np.asarray(slot))[:2])
        assert driven[(episode, t)] or replay.source[slot] == Source.DEMO
        hands_held = [driven[(episode, t + i)] for i in range(int(k))]
        if at_takeover != "through":
            assert len(set(hands_held)) == 1
        if discount == 0.0:
            continue
        assert replay.states(np.asarray(end))[:2].tolist() == [episode, t + k]
        if at_takeover == "terminal":  # a take-over would have ended the backup
            assert hands_held[-1] or not driven.get((episode, t + int(k)), False)


def test_frames_are_those_of_their_rows_through_lost_rows_and_the_wrap():
    shape = (2, 3, 3)
    spec = replace(SPEC, images={"front": shape, "wrist": shape})
    replay = Replay(CONFIG, spec, frames=True)

    def seen(row):
        frame = np.full(shape, row.episode % 256, np.uint8)
        frame[1] = row.t
        return {"front": frame, "wrist": 255 - frame}

    for episode in range(300):  # the ring wraps about twice
        for row in make_episode(episode, 9, success=episode % 2 == 0):
            if (episode * 11 + row.t) % 13:
                replay.add(replace(row, images=seen(row)))
    rows, pictures = replay.sample_frames(200, np.random.default_rng(0), 2)
    for state, images in ((rows.now, pictures.now), (rows.nxt, pictures.nxt)):
        assert images["front"].shape == (2, 200, *shape)
        assert (images["front"][..., 0, 0, 0] == state[..., 0] % 256).all()
        assert (images["front"][..., 1, 0, 0] == state[..., 1]).all()
        assert (images["wrist"] == 255 - images["front"]).all()
    assert (rows.now[..., 0] == rows.nxt[..., 0]).all()
    steps = rows.nxt[..., 1] - rows.now[..., 1]
    assert set(np.unique(steps)) == {0, 1, 2, 3}


def test_frames_are_kept_only_if_asked_for():
    replay = filled(make_episode(0, 9))
    assert replay.frames is None
    with pytest.raises(Error, match="frames=True"):
        replay.sample_frames(8, np.random.default_rng(0))
