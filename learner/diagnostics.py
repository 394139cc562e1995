"""How healthy the networks are: error on what is new, dead units, weights, Q against the truth.

None of it changes training. What is measured is drawn from the replay with chance of its own, so a
run with and without anybody looking is the same run.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learner.algo.action import ActionComposer
from learner.algo.batch import Batch, Rows
from learner.algo.update import LearnerState, UpdateContext, batch_of, target_of
from learner.data.replay import Replay
from learner.nets.mlp import Params, activations

ROWS = 128  # of each kind that a report is made from
RECENT = 5000  # [rows], of which Q is held against the return
DORMANT = 0.025  # [-], a unit whose mean activity is at most this share of its layer's is dormant

NAMES = (
    "td_holdout",  # [reward], mean |Q - target| on held-out episodes
    "td_train",  # [reward], the same on episodes that are trained on
    "td_gap",  # [reward], the first minus the second
    "q_bias",  # [reward], mean Q - Monte-Carlo return of recent finished episodes
    "mc_return",  # [reward], mean of that return
    "dormant_critic",  # [-], share of the hidden units
    "dormant_actor",
    "norm_critic",  # [-], Euclidean norm of all weights
    "norm_actor",
)


class Sample(NamedTuple):
    """What a report is made from."""

    rows: Rows  # (3, B, ...): held-out, trained on, and windows to the end of their episodes
    counted: np.ndarray  # (3, B) float32, 0 where a row is only there to fill the shape


def draw_rows(replay: Replay, start: np.ndarray) -> Rows:
    """Return the n-step windows that start at slots (B,)."""
    windows = replay.windows(start)
    extra = np.stack([windows.reward, windows.discount], -1)
    return Rows(replay.rows[start], replay.rows[windows.bootstrap], extra)


def draw_holdout(replay: Replay, rng: np.random.Generator, rows: int = ROWS) -> Rows | None:
    """Return windows of held-out episodes, None while there are none."""
    if len(replay.views.holdout) == 0:
        return None
    return draw_rows(replay, replay.views.holdout.draw(rng, (rows,)))


def draw_sample(replay: Replay, rng: np.random.Generator, rows: int = ROWS) -> Sample:
    """Return what a report is made from.

    Args:
        replay: Holds at least one step that can be trained on.
        rng: Source of chance.
        rows: B.
    """
    trained = draw_rows(replay, replay.draw(rows, rng))
    heldout = draw_holdout(replay, rng, rows)
    recent = replay.recent(RECENT)
    start = rng.choice(recent, rows) if len(recent) else replay.draw(rows, rng)
    returns, finished = draw_returns(replay, start)
    parts = [trained if heldout is None else heldout, trained, returns]
    counted = np.stack([np.full(rows, heldout is not None), np.ones(rows), finished])
    return Sample(Rows(*map(np.stack, zip(*parts, strict=True))), counted.astype(np.float32))


def draw_returns(replay: Replay, start: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Return windows from slots (B,) to the end of their episodes, and which have come there.

    Where time cut the episode, what would have come after is left to the critics' own value of the
    last state, as the backup does. A person's help counts as what happened.
    """
    windows = replay.windows(start, len(replay.source), at_takeover="through")
    finished = (windows.discount == 0) | replay.end[windows.bootstrap]
    extra = np.stack([windows.reward, windows.discount], -1)
    return Rows(replay.rows[start], replay.rows[windows.bootstrap], extra), finished


@partial(jax.jit, static_argnums=0)
def td_error(
    composer: ActionComposer, learner: LearnerState, rows: Rows, fixed: UpdateContext
) -> jax.Array:
    """Return the mean |Q - target| of windows (B,), in reward.

    Q is the mean over heads and the target that of a critic step, so that the error is comparable
    with `td_demo` and `td_online`.
    """
    value, target = _judge(composer, learner, fixed, rows)
    return jnp.abs(value - target).mean()


@partial(jax.jit, static_argnums=0)
def diagnose(
    composer: ActionComposer, learner: LearnerState, sample: Sample, fixed: UpdateContext
) -> jax.Array:
    """Return NAMES as one vector, nan for what isn't known."""
    value, target = jax.lax.map(partial(_judge, composer, learner, fixed), sample.rows)
    counted = jnp.asarray(sample.counted)

    def mean(x: jax.Array, part: int) -> jax.Array:
        return (x[part] * counted[part]).sum() / counted[part].sum()  # 0 / 0 is nan

    error = jnp.abs(value - target)
    holdout, train = mean(error, 0), mean(error, 1)
    batch = _batch(composer, fixed, Rows(*(leaf[1] for leaf in sample.rows)))
    activation = composer.config.activation
    critic_input = jnp.concatenate([batch.state, batch.action], -1)
    actor_input = composer.features(batch.state, batch.context)
    in_critics = jax.vmap(lambda head: dormant_share(head, critic_input, activation))
    values = {
        "td_holdout": holdout,
        "td_train": train,
        "td_gap": holdout - train,
        "q_bias": mean(value - target, 2),
        "mc_return": mean(target, 2),
        "dormant_critic": in_critics(learner.critic).mean(),
        "dormant_actor": dormant_share(learner.actor, actor_input, activation),
        "norm_critic": weight_norm(learner.critic),
        "norm_actor": weight_norm(learner.actor),
    }
    return jnp.stack([values[name] for name in NAMES])


def report(
    composer: ActionComposer, learner: LearnerState, sample: Sample, fixed: UpdateContext
) -> dict[str, float]:
    """Return the known values by their NAMES; waits for them."""
    vector = np.asarray(diagnose(composer, learner, sample, fixed)).tolist()
    return {name: v for name, v in zip(NAMES, vector, strict=True) if v == v}


def dormant_share(params: Params, x: jax.Array, activation: str) -> jax.Array:
    """Return the share of hidden units that are dormant at inputs (B, I).

        s_i = mean|h_i| / mean over the layer's units of mean|h_k|,   dormant where s_i <= DORMANT

    Args:
        params: Of one network.
        x: Inputs.
        activation: Of its hidden layers.

    Source:
        G. Sokar, R. Agarwal, P. S. Castro, U. Evci, "The Dormant Neuron Phenomenon in Deep
        Reinforcement Learning", 2023.
    """
    active = [jnp.abs(layer).mean(0) for layer in activations(params, x, activation)]
    dormant = [h <= DORMANT * h.mean() for h in active]  # a layer that is silent is all dormant
    return jnp.concatenate(dormant).mean(dtype=jnp.float32)


def weight_norm(params: Params) -> jax.Array:
    """Return the Euclidean norm of all weights together."""
    return jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)))


def _batch(composer: ActionComposer, fixed: UpdateContext, rows: Rows) -> Batch:
    action = len(composer.residual_scale)
    return batch_of(fixed, rows, rows.now.shape[-1] - 2 * action - 3, action)


def _judge(
    composer: ActionComposer, learner: LearnerState, fixed: UpdateContext, rows: Rows
) -> tuple[jax.Array, jax.Array]:
    batch = _batch(composer, fixed, rows)
    key = jax.random.fold_in(jax.random.fold_in(fixed.key, 8), learner.step)
    target, _ = target_of(composer, fixed, learner, batch, key)
    return composer.value(learner.critic, batch.state, batch.action).mean(0), target
