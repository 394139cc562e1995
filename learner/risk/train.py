"""Train a risk critic on episodes at control rate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from handrail.errors import ConfigError
from handrail.risk_critic.format import Layer, RiskCritic
from learner.nets.precision import use_float32
from learner.risk.config import RiskConfig
from learner.risk.episodes import Episode, Windows, windows_of
from learner.risk.network import (
    Batch,
    Params,
    State,
    init_heads,
    pessimistic,
    standardise,
    train_step,
)

log = logging.getLogger("risk")

_CHUNK = 50  # [steps] in one compiled call
_JUDGED = 20_000  # [windows] at most that an evaluation looks at
_STILL = 1e-6  # [-], a feature that deviates less, relative to its size, never varied


class Trained(NamedTuple):
    """What training made."""

    critic: RiskCritic  # thresholds not yet calibrated
    steps: int  # [steps], to the minimum on held-out episodes
    loss: float  # [nat], there, against the outcomes


def fit_critic(
    train: Sequence[Episode], validation: Sequence[Episode], config: RiskConfig, version: int = 1
) -> Trained:
    """Return the critic at its minimum on the validation episodes.

    Args:
        train: Episodes to learn from, with and without violations.
        validation: Other episodes, which end training.
        config: Table [risk].
        version: Of the critic.

    Raises:
        ConfigError: No violations, no safe data, or episodes of different control periods.
    """
    _require(train, validation)
    use_float32()
    dt = train[0].dt
    ticks, discount = config.ticks(dt), config.discount(dt)
    windows, held_out = (windows_of(part, ticks, discount) for part in (train, validation))
    mean, rate = _scaling(windows.features)
    state = _initial(config, windows.features.shape[1])
    optimiser = _optimiser(config)
    inputs = standardise(jnp.asarray(windows.features), jnp.asarray(mean), jnp.asarray(rate))
    weights = _weights(windows, config)
    rng = np.random.default_rng([config.seed, 1])
    judge = _judge(held_out, mean, rate, np.random.default_rng([config.seed, 2]))
    best, best_params, best_step, since = np.inf, state.params, 0, 0
    for step in range(0, config.steps, _CHUNK):
        batches = _draw(windows, config, rng)
        state, loss = _advance(optimiser, state, inputs, *batches, weights, discount, config.tau)
        if (step + _CHUNK) % config.evaluate_every < _CHUNK:
            judged = float(judge(state.params))
            log.info("step %d: loss %.4f, held out %.4f", step + _CHUNK, float(loss), judged)
            since += 1
            if judged < best:
                best, best_params, best_step, since = judged, state.params, step + _CHUNK, 0
            if since >= config.patience:
                break
    if not np.isfinite(best):
        raise ConfigError(
            f"training diverged: the held-out loss is {best}; lower risk.lr, now {config.lr}"
        )
    layers = tuple(Layer(np.asarray(kernel), np.asarray(bias)) for kernel, bias in best_params)
    return Trained(RiskCritic(version, mean, rate, layers), best_step, best)


def _require(train: Sequence[Episode], validation: Sequence[Episode]) -> None:
    for name, part in (("train on", train), ("validate on", validation)):
        bad = sum(episode.violates for episode in part)
        if bad == 0:
            raise ConfigError(
                f"no violation in the {len(part)} episodes to {name}: a risk critic needs some; "
                f"collect harder pushes, or lower risk.force_limit"
            )
    if all(episode.violation.all() for episode in train):
        raise ConfigError("every tick violates: a risk critic needs safe data as well")
    periods = {episode.dt for episode in (*train, *validation)}
    widths = {episode.features.shape[1] for episode in (*train, *validation)}
    if len(periods) != 1 or len(widths) != 1:
        raise ConfigError(
            f"episodes must have one control period and one set of features, got {periods} s and "
            f"{widths} features"
        )


def _scaling(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = features.mean(0, np.float64), features.std(0, dtype=np.float64)
    still = deviation <= _STILL * (np.abs(mean) + 1e-3)
    # what never varied is not looked at: nobody knows what it would mean if it did
    rate = np.where(still, 0.0, 1.0 / np.where(still, 1.0, deviation))
    return mean.astype(np.float32), rate.astype(np.float32)


def _optimiser(config: RiskConfig) -> optax.GradientTransformation:
    return optax.adamw(config.lr, weight_decay=config.weight_decay)


def _initial(config: RiskConfig, inputs: int) -> State:
    params = init_heads(jax.random.key(config.seed), config.heads, inputs, config.hidden)
    return State(params, params, _optimiser(config).init(params))


def _weights(windows: Windows, config: RiskConfig) -> np.ndarray:
    """Return what a safe and a violating window of a batch count, shape (2,).

    Without it the oversampling would go into every bootstrap, and compound.
    """
    share, drawn = windows.violates.mean(), _positives(config) / config.batch
    return np.array([(1.0 - share) / (1.0 - drawn), share / drawn], np.float32)


def _positives(config: RiskConfig) -> int:
    return min(max(1, round(config.positive * config.batch)), config.batch - 1)


def _draw(
    windows: Windows, config: RiskConfig, rng: np.random.Generator
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return indices now and after, and labels, each (chunk, heads, batch)."""
    positive = np.flatnonzero(windows.violates)
    negative = np.flatnonzero(~windows.violates)
    many = _positives(config)
    shape = (_CHUNK, config.heads)
    pick = np.concatenate(
        [rng.choice(positive, (*shape, many)), rng.choice(negative, (*shape, config.batch - many))],
        axis=-1,
    )
    parts = (windows.now[pick], windows.after[pick], windows.violates[pick].astype(np.float32))
    now, after, label = map(jnp.asarray, parts)
    return now, after, label


@partial(jax.jit, static_argnums=0)
def _advance(
    optimiser: optax.GradientTransformation,
    state: State,
    inputs: jax.Array,
    now: jax.Array,
    after: jax.Array,
    label: jax.Array,
    weights: np.ndarray,
    discount: float,
    tau: float,
) -> tuple[State, jax.Array]:
    def one(state: State, part: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
        now, after, label = part
        weight = jnp.where(label > 0, weights[1], weights[0])
        batch = Batch(inputs[now], inputs[after], label, weight)
        return train_step(optimiser, state, batch, discount, tau)

    state, losses = jax.lax.scan(one, state, (now, after, label))
    return state, losses.mean()


def _judge(windows: Windows, mean: np.ndarray, rate: np.ndarray, rng: np.random.Generator) -> Any:
    """Return the held-out cross-entropy of weights against what really came of each window."""
    pick = rng.permutation(len(windows.now))[:_JUDGED]
    inputs = standardise(
        jnp.asarray(windows.features[windows.now[pick]]), jnp.asarray(mean), jnp.asarray(rate)
    )
    outcome = jnp.asarray(windows.outcome[pick], jnp.float32)

    @jax.jit
    def judged(params: Params) -> jax.Array:
        risk = jnp.clip(pessimistic(params, inputs), 1e-6, 1.0 - 1e-6)
        return -(outcome * jnp.log(risk) + (1.0 - outcome) * jnp.log(1.0 - risk)).mean()

    return judged
