"""Train a behaviour-cloning base on demonstrations, to its validation minimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from handrail.errors import Error
from learner.bases.bc import BCWeights, predict_scaled
from learner.config import BaseConfig
from learner.nets.mlp import Params, init_mlp
from learner.nets.normaliser import Normaliser, normalise

Report = Callable[[dict[str, float]], None]


class Chunks(NamedTuple):
    """Training set."""

    state: np.ndarray  # (N, S) float32, normalised
    target: np.ndarray  # (N, h, A) float32
    counted: np.ndarray  # (N, h) float32, 0 past the end of the episode


def chunks_of(
    normaliser: Normaliser, episodes: list[tuple[np.ndarray, np.ndarray]], chunk: int
) -> Chunks:
    """Return each step's state with the h actions that followed.

    Args:
        normaliser: Scales the states.
        episodes: States (T, S) and actions (T, A) of each.
        chunk: h.
    """
    states, targets, counted = [], [], []
    for state, action in episodes:
        steps = np.arange(len(state))[:, None] + np.arange(chunk)
        inside = steps < len(state)
        states.append(state)
        targets.append(action[np.minimum(steps, len(state) - 1)])
        counted.append(inside.astype(np.float32))
    scaled = np.asarray(normalise(normaliser, jnp.asarray(np.concatenate(states))))
    return Chunks(scaled, np.concatenate(targets), np.concatenate(counted))


class _Train(NamedTuple):
    params: Any
    opt: optax.OptState
    ema: Any
    step: jax.Array


def fit_bc(
    config: BaseConfig,
    normaliser: Normaliser,
    mask: np.ndarray,
    episodes: list[tuple[np.ndarray, np.ndarray]],
    key: jax.Array,
    report: Report | None = None,
) -> tuple[BCWeights, dict[str, float]]:
    """Train on demonstrations until the validation error rises; return the best averaged weights.

    Whole episodes are held out, since frames of one episode resemble each other.

    Args:
        config: Table [base].
        normaliser: Scales the states.
        mask: Parts of the state that the base sees, shape (S,).
        episodes: States (T, S) and actions (T, A) of each demonstration.
        key: Random key.
        report: Called with "step", "train_loss", "validation_loss" at each evaluation.

    Returns:
        Weights, and what training came to.

    Raises:
        Error: There are fewer than two demonstrations, or training diverged.
    """
    if len(episodes) < 2:
        raise Error(f"the base needs at least 2 demonstrations, got {len(episodes)}")
    split_key, init_key, train_key = jax.random.split(key, 3)
    order = np.asarray(jax.random.permutation(split_key, len(episodes)))
    held = max(1, round(config.validation * len(episodes)))
    validation = chunks_of(normaliser, [episodes[i] for i in order[:held]], config.chunk)
    training = chunks_of(normaliser, [episodes[i] for i in order[held:]], config.chunk)
    outputs = config.chunk * training.target.shape[-1]
    params = init_mlp(init_key, training.state.shape[1], config.hidden, outputs, last_gain=0.1)

    steps, best, losses = 0, None, {"train_loss": float("nan"), "validation_loss": float("inf")}
    train = _start(config, params)
    run = _compile(config, training, validation, mask)
    stale = 0
    while steps < config.max_steps and stale < config.patience:
        train, ema, train_loss, validation_loss = run(train, train_key)
        steps += config.evaluate_every
        row = {"train_loss": float(train_loss), "validation_loss": float(validation_loss)}
        if report is not None:
            report({"step": float(steps), **row})
        if not np.isfinite(row["validation_loss"]):
            raise Error(f"the base's training diverged at step {steps}: {row}; lower base.lr")
        stale += 1
        if row["validation_loss"] < losses["validation_loss"]:
            best, losses, stale = (ema, steps), row, 0
    assert best is not None
    chosen, minimum = best
    if config.train_multiple > 1:
        train, steps = _start(config, params), 0
        while steps < config.train_multiple * minimum:
            train, chosen, train_loss, validation_loss = run(train, train_key)
            steps += config.evaluate_every
            losses = {"train_loss": float(train_loss), "validation_loss": float(validation_loss)}
    summary = {
        "steps": float(steps if config.train_multiple > 1 else minimum),
        "minimum_step": float(minimum),
        "episodes": float(len(episodes)),
        **losses,
    }
    return BCWeights(jax.tree.map(np.asarray, chosen), np.asarray(mask, np.float32)), summary


def _optimizer(config: BaseConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(config.lr, weight_decay=config.weight_decay)
    )


def _start(config: BaseConfig, params: Params) -> _Train:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return _Train(params, _optimizer(config).init(params), zeros, jnp.zeros((), jnp.int32))


def _compile(
    config: BaseConfig, training: Chunks, validation: Chunks, mask: np.ndarray
) -> Callable[[_Train, jax.Array], tuple[_Train, Params, jax.Array, jax.Array]]:
    action = training.target.shape[-1]
    optimizer = _optimizer(config)

    def loss_fn(params: Params, data: Chunks) -> jax.Array:
        error = jnp.square(
            predict_scaled(action, BCWeights(params, mask), data.state) - data.target
        )
        return (error.mean(-1) * data.counted).sum() / data.counted.sum()

    @jax.jit
    def run(train: _Train, key: jax.Array) -> tuple[_Train, Params, jax.Array, jax.Array]:
        data = jax.tree.map(jnp.asarray, training)

        def step(train: _Train, _: None) -> tuple[_Train, jax.Array]:
            step_key = jax.random.fold_in(key, train.step)
            index = jax.random.randint(step_key, (config.batch,), 0, len(training.state))
            batch = jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0), data)
            loss, grads = jax.value_and_grad(loss_fn)(train.params, batch)
            changes, opt = optimizer.update(grads, train.opt, train.params)
            params = optax.apply_updates(train.params, changes)
            ema = optax.incremental_update(params, train.ema, 1.0 - config.ema)
            return _Train(params, opt, ema, train.step + 1), loss

        train, losses = jax.lax.scan(step, train, None, length=config.evaluate_every)
        unbiased = 1.0 - jnp.power(jnp.float32(config.ema), train.step.astype(jnp.float32))
        ema = jax.tree.map(lambda leaf: leaf / unbiased, train.ema)
        return train, ema, losses.mean(), loss_fn(ema, jax.tree.map(jnp.asarray, validation))

    return run
