"""The actor's loss and the temperature's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from learner.batch import Batch
from learner.networks import Params
from learner.operator import Operator


def actor_loss(
    operator: Operator,
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
        operator: The operator's constants.
        actor: Weights to differentiate.
        critic: Weights of all heads, fixed.
        batch: B normalised rows.
        temperature: alpha, scalar.
        gain: g that the edit is optimised for, scalar.
        key: Random key.

    Returns:
        L, (entropy of the edit [nat], size of the edit without noise [-]), all scalar.
    """
    config = operator.config
    noise = operator.noise(key, batch.action.shape, "loss")
    edited = operator.edit(actor, batch.state, batch.context, noise, gain)
    value = operator.value(critic, batch.state, edited.action).mean(0)
    loss = -value.mean()
    if config.actor == "sac":
        loss += (temperature * edited.log_prob).mean()
    if config.edit_penalty > 0:
        loss += config.edit_penalty * jnp.square(edited.edit).sum(-1).mean()
    if config.bc_anchor > 0:
        loss += config.bc_anchor * _anchor(operator, edited.edit, batch)
    return loss, (-edited.log_prob.mean(), jnp.abs(edited.centre).mean())


def temperature_loss(operator: Operator, log_alpha: jax.Array, entropy: jax.Array) -> jax.Array:
    """Return the loss whose gradient raises alpha while entropy is below its target.

    The target counts only dimensions that an edit can move, before the reach is applied.
    """
    target = operator.config.entropy_per_dim * operator.active
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target)


def _anchor(operator: Operator, edit: jax.Array, batch: Batch) -> jax.Array:
    """Return the squared distance of the edit to the one that gives the demonstrated action.

    A person may go far beyond an edit's reach; such a dimension teaches the critic but would only
    saturate the actor, so it is left out.
    """
    reach = jnp.asarray(operator.reach, jnp.float32)
    wanted = (batch.action - operator.propose(batch.context)) / jnp.maximum(reach, 1e-6)
    counted = (jnp.abs(wanted) <= 2.0) & (reach > 0) & (batch.anchor[..., None] > 0)
    error = jnp.where(counted, jnp.square(edit - jnp.clip(wanted, -1.0, 1.0)), 0.0)
    return error.sum(-1).mean()
