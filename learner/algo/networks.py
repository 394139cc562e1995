"""Networks before any training: the shapes that acting needs too, without an optimiser."""

from __future__ import annotations

import jax

from learner.algo.action import ActionComposer
from learner.nets.mlp import Params, init_ensemble, init_mlp

Q_LOGIT_BIAS_INIT = -3.0  # [-], log odds: new heads promise a twentieth of the range, not half


def init_networks(
    composer: ActionComposer, state: int, action: int, key: jax.Array
) -> tuple[Params, Params]:
    """Return the weights of critics and actor before the first update.

    An actor that edits a base starts with its last layer, kernel and bias, at exactly zero: its
    first action is the base's. Heads whose values lie in a range start near its lower end.

    Args:
        composer: The composer's constants.
        state: S.
        action: A.
        key: Random key.
    """
    config = composer.config
    critic_key, actor_key = jax.random.split(key)
    residual = config.residual_on == "base"
    critic = init_ensemble(critic_key, config.num_qs, state + action, config.hidden)
    if composer.value_range is not None:
        critic["b_out"] += Q_LOGIT_BIAS_INIT
    actor = init_mlp(
        actor_key,
        state + (action + 1 if residual else 0),
        config.hidden,
        2 * action if config.actor == "sac" else action,
        last_gain=0.0 if residual else 0.01,
    )
    return critic, actor
