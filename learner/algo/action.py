"""PROPOSE -> EDIT -> SELECT -> clip: how an action comes about, everywhere.

Acting, the critic's target and (EDIT) the actor's loss call this one code, so they can't disagree:

    proposal   p = base's action, or zeros
    edit       a = clip(p + g s tanh(u), -1, 1),  u from the actor's network
    select     a, or the base's own action, or one drawn around it: whichever the critics prefer

with s the reach of each dimension and g in [0, 1] the gain that grows after warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from handrail.config import check
from handrail.spec import EnvSpec
from learner.bases.protocol import BaseContext
from learner.config import LearnerConfig
from learner.nets.mlp import Params, ensemble, mlp

LOG_STD_RANGE = (-5.0, 2.0)
POSITION_UNIT = 0.1  # [1/steps], brings positions in a chunk to the size of the other inputs

Use = Literal["explore", "target", "loss", "eval"]


class ResidualAction(NamedTuple):
    """An edited proposal."""

    action: jax.Array  # (..., A), clipped
    edit: jax.Array  # (..., A), tanh(u), before the reach
    centre: jax.Array  # (..., A), the edit without noise
    log_prob: jax.Array  # (...,), of the edit before the reach; 0 for a deterministic actor


class SelectedAction(NamedTuple):
    """A selected action."""

    action: jax.Array  # (..., A), clipped
    edit: jax.Array  # (..., A), 0 where another action than the edited one was chosen
    log_prob: jax.Array  # (...,)
    edited: jax.Array  # (...,) bool, False where the base's own action was chosen
    value: jax.Array | None  # (E, B), of the action by the heads that judged; None if none did


@jax.custom_jvp
def clip_straight_through(x: jax.Array) -> jax.Array:
    """Return x clipped to [-1, 1]; gradients pass as if it were not, so none dies at the box."""
    return jnp.clip(x, -1.0, 1.0)


@clip_straight_through.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return clip_straight_through(primals[0]), tangents[0]


@dataclass(frozen=True)
class ActionComposer:
    """The composer's constants; weights are arguments."""

    config: LearnerConfig
    residual_scale: tuple[float, ...]  # (A,), s

    @property
    def num_edited_dims(self) -> int:
        """Number of action dimensions that an edit can move."""
        return sum(s > 0 for s in self.residual_scale)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Between what the heads' values lie by their form [reward]; None: they are any number."""
        return self.config.v_range if self.config.value_loss == "cross_entropy" else None

    def features(self, state: jax.Array, context: BaseContext) -> jax.Array:
        """Return the actor's input: normalised state, and the base's context if it edits that."""
        if self.config.residual_on == "zeros":
            return state
        position = context.position[..., None] * POSITION_UNIT
        return jnp.concatenate([state, context.action, position], -1)

    def propose(self, context: BaseContext) -> jax.Array:
        """Return what is to be edited, (..., A); an invalid base proposes to hold still."""
        if self.config.residual_on == "zeros":
            return jnp.zeros_like(context.action)
        return context.action * context.valid[..., None]

    def noise(self, key: jax.Array, shape: tuple[int, ...], use: Use) -> jax.Array:
        """Return the random part of an edit, of the shape of the actions."""
        if use == "eval" or (use == "loss" and self.config.actor == "td3"):
            return jnp.zeros(shape, jnp.float32)
        # drawn in a row: the same numbers, in a third of the time where the last axis is short
        noise = jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)
        if self.config.actor == "sac":
            return noise
        if use == "explore":
            return noise * self.config.explore_noise
        limit = self.config.target_noise_clip
        return jnp.clip(noise * self.config.target_noise, -limit, limit)

    def candidate_noise(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return how far samples lie from the base's action, (N, *shape); drawn in every use."""
        drawn = jax.random.normal(jax.random.fold_in(key, 1), (self.config.samples, *shape))
        return self.config.sample_noise * drawn

    def edit(
        self,
        actor: Params,
        state: jax.Array,
        context: BaseContext,
        noise: jax.Array,
        gain: ArrayLike,
    ) -> ResidualAction:
        """Return the edited proposal.

        Args:
            actor: Weights of the actor.
            state: Normalised, shape (..., S).
            context: The base's context at those states.
            noise: From `noise`, shape (..., A).
            gain: g, scalar; without effect when zeros are edited.
        """
        features = self.features(state, context)
        out = mlp(actor, features, self.config.activation, self.config.precision)
        if self.config.actor == "sac":
            mean, log_std = jnp.split(out, 2, -1)
            log_std = jnp.clip(log_std + self.config.initial_log_std, *LOG_STD_RANGE)
            raw = mean + jnp.exp(log_std) * noise
            edit, centre = jnp.tanh(raw), jnp.tanh(mean)
            each = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2 * jnp.pi)
            each -= 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
            log_prob = (each * (jnp.asarray(self.residual_scale) > 0)).sum(-1)
        else:
            centre = jnp.tanh(out)
            edit = jnp.clip(centre + noise, -1.0, 1.0)
            log_prob = jnp.zeros(out.shape[:-1], jnp.float32)
        step = edit * jnp.asarray(self.residual_scale, jnp.float32)
        if self.config.residual_on == "base":
            step = step * gain * context.valid[..., None]
        action = clip_straight_through(self.propose(context) + step)
        return ResidualAction(action, edit, centre, log_prob)

    def act(
        self,
        actor: Params,
        critic: Params | None,
        state: jax.Array,
        context: BaseContext,
        noise: jax.Array,
        gain: ArrayLike,
        candidate_noise: jax.Array | None = None,
    ) -> SelectedAction:
        """Return the action after all stages.

        A candidate, the edit or a sample, is chosen over the base's own action only where the heads
        agree that it is better: with d the difference of their values, the one with the largest
        mean(d) - (1 - g) margin * deviation(d) wins if that is positive. So young critics must
        agree, and those that are trusted with the whole reach decide by their mean: a margin that
        stayed would hand every close call to the base, step by step between the two.

        Args:
            actor: Weights of the actor.
            critic: Heads that judge; None if nothing is to be selected.
            state: Normalised, shape (B, S).
            context: The base's context.
            noise: From `noise`, shape (B, A).
            gain: g, scalar; at 0 the base's own action wins.
            candidate_noise: From `candidate_noise`, shape (N, B, A); None for no samples.
        """
        edited = self.edit(actor, state, context, noise, gain)
        if self.config.select == "edit" or critic is None:
            yes = jnp.ones(edited.log_prob.shape, bool)
            return SelectedAction(edited.action, edited.edit, edited.log_prob, yes, None)
        base = clip_straight_through(context.action * context.valid[..., None])
        candidates = [base[None], edited.action[None]]
        if candidate_noise is not None:
            samples = base + candidate_noise * gain * context.valid[..., None]
            candidates.append(clip_straight_through(samples))
        actions = jnp.concatenate(candidates)
        states = jnp.tile(state, (len(actions), 1))
        values = self.value(critic, states, actions.reshape(-1, actions.shape[-1]))
        values = values.reshape(-1, *actions.shape[:2])
        lead = values[:, 1:] - values[:, :1]
        margin = self.config.margin * (1.0 - jnp.asarray(gain))
        score = lead.mean(0) - margin * lead.std(0)
        rival = 1 + score.argmax(0)
        chosen = (score.max(0) > 0) & (jnp.asarray(gain) > 0)
        if self.config.residual_on == "zeros":
            rival = jnp.where(context.valid == 0, 1, rival)
            chosen |= context.valid == 0
        best = jnp.where(chosen, rival, 0)
        return SelectedAction(
            jnp.take_along_axis(actions, best[None, :, None], 0)[0],
            jnp.where((best == 1)[..., None], edited.edit, 0.0),
            edited.log_prob,
            chosen,
            jnp.take_along_axis(values, best[None, None], 1)[:, 0],
        )

    def value(self, critic: Params, state: jax.Array, action: jax.Array) -> jax.Array:
        """Return each head's value, (E, B), at normalised states (B, S) and actions (B, A)."""
        return self.value_of(self.logits(critic, state, action))

    def logits(self, critic: Params, state: jax.Array, action: jax.Array) -> jax.Array:
        """Return each head's output, (E, B), of which `value_of` makes a value."""
        inputs = jnp.concatenate([state, action], -1)
        return ensemble(critic, inputs, self.config.activation, self.config.precision)

    def value_of(self, logits: jax.Array) -> jax.Array:
        """Return the values that logits stand for: themselves, or log odds within the range."""
        if self.value_range is None:
            return logits
        low, high = self.value_range
        return low + (high - low) * jax.nn.sigmoid(logits)


def make_action_composer(config: LearnerConfig, spec: EnvSpec) -> ActionComposer:
    """Return the composer of a method on a task.

    Raises:
        ConfigError: The reach has neither one value nor one per action dimension.
    """
    if config.residual_on == "zeros":
        return ActionComposer(config, (1.0,) * spec.action)
    check(
        len(config.residual_scale) in (1, spec.action),
        "learner.residual_scale",
        config.residual_scale,
        f"one value, or {spec.action} (one per action dimension of task {spec.task})",
    )
    residual_scale = list(
        config.residual_scale
        if len(config.residual_scale) > 1
        else config.residual_scale * spec.action
    )
    if spec.gripper >= 0 and config.gripper_residual_scale is not None:
        residual_scale[spec.gripper] = config.gripper_residual_scale
    return ActionComposer(config, tuple(residual_scale))
