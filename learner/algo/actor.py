"""The actor's loss and the temperature's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from learner.algo.action import ActionComposer
from learner.algo.batch import Batch
from learner.nets.mlp import Params


def actor_loss(
    composer: ActionComposer,
    actor: Params,
    critic: Params,
    batch: Batch,
    temperature: jax.Array,
    gain: ArrayLike,
    key: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Return the loss of the edited action, and the mean entropy and size of the edit.

        L = mean(alpha log pi(e) - mean over heads of Q(s, a)) + penalties

    TD3 is the same with a deterministic edit and alpha = 0. The edit, not the selection, is what is
    differentiated.

    Args:
        composer: The composer's constants.
        actor: Weights to differentiate.
        critic: Weights of all heads, fixed.
        batch: B normalised rows.
        temperature: alpha, scalar.
        gain: g that the edit is optimised for, scalar.
        key: Random key.

    Returns:
        L, (entropy of the edit [nat], size of the edit without noise [-]), all scalar.
    """
    config = composer.config
    noise = composer.noise(key, batch.action.shape, "loss")
    edited = composer.edit(actor, batch.state, batch.context, noise, gain)
    value = composer.value(critic, batch.state, edited.action).mean(0)
    loss = -value.mean()
    if config.actor == "sac":
        loss += (temperature * edited.log_prob).mean()
    if config.edit_penalty > 0:
        loss += config.edit_penalty * jnp.square(edited.edit).sum(-1).mean()
    if config.bc_weight > 0:
        loss += config.bc_weight * _bc_loss(composer, edited.edit, batch)
    return loss, (-edited.log_prob.mean(), jnp.abs(edited.centre).mean())


def temperature_loss(
    composer: ActionComposer, log_alpha: jax.Array, entropy: jax.Array
) -> jax.Array:
    """Return the loss whose gradient raises alpha while entropy is below its target.

    The target counts only dimensions that an edit can move, before the reach is applied.
    """
    target = composer.config.entropy_per_dim * composer.num_edited_dims
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target)


def _bc_loss(composer: ActionComposer, edit: jax.Array, batch: Batch) -> jax.Array:
    """Return the squared distance of the edit to the one that gives the demonstrated action.

    A person may go far beyond an edit's reach; such a dimension teaches the critic but would only
    saturate the actor, so it is left out.
    """
    residual_scale = jnp.asarray(composer.residual_scale, jnp.float32)
    wanted = (batch.action - composer.propose(batch.context)) / jnp.maximum(residual_scale, 1e-6)
    counted = (jnp.abs(wanted) <= 2.0) & (residual_scale > 0) & (batch.is_prior[..., None] > 0)
    error = jnp.where(counted, jnp.square(edit - jnp.clip(wanted, -1.0, 1.0)), 0.0)
    return error.sum(-1).mean()
