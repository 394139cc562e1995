"""May new weights reach the arm? Judged at each publication, as a function of values alone.

A candidate is refused where

    a weight is not finite,
    its held-out TD error > gate_td_error * largest return seen         (once the actor learns), or
    mean |a_new - a_old| / s over the probe states > gate_action_change * max(1, n / BURST),

a_old being the actions of the last accepted weights, s the reach of an edit in each dimension, and
n the updates since the candidate before: a learner that catches up moves far between two of them.
The gain is taken as full: a change that the ramp still hides is a change. Both the averaged actor,
which is evaluated, and the newest one, which explores, are asked; the larger change counts.

What was refused for its actions alone is further from the last accepted weights at each try, so
that rule by itself would lock the gate for ever. The gate therefore also compares each candidate
with the one before it: after `gate_patience` refusals in a row between which the actions stayed
near each other, the policy has settled elsewhere and is accepted from there. A policy that goes on
jumping, or whose critics are off, never is.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learner.algo.action import ActionComposer
from learner.bases.protocol import BaseContext
from learner.nets.normaliser import normalise
from learner.policy.weights import PolicyWeights

PROBE = 128  # [rows], at which actions are compared
BURST = 100  # [updates] between candidates, above which more change is allowed, in proportion


class ProbeStates(NamedTuple):
    """States at which old and new weights are compared."""

    state: np.ndarray  # (N, S), in its own units
    context: BaseContext  # of the base at those states


class GuardState(NamedTuple):
    """What the gate remembers."""

    good: PolicyWeights | None = None  # the last accepted; None before the first
    last: PolicyWeights | None = None  # the newest candidate that was finite
    consistent_refusals: int = 0  # refusals for their actions in a row, each near the one before
    refusals: int = 0  # in a row
    updates: int = 0  # at the newest candidate


class GuardDecision(NamedTuple):
    """What the gate says of a candidate."""

    accepted: bool
    reason: str  # why it was refused, or accepted from afar; else empty
    change: float  # [-], mean |a_new - a_old| / reach; nan where it wasn't compared
    refusals: int  # in a row, this one included; 0 where accepted
    finite: bool = True  # whether every weight is


@partial(jax.jit, static_argnums=0)
def action_change(
    composer: ActionComposer, probe: ProbeStates, old: PolicyWeights, new: PolicyWeights
) -> jax.Array:
    """Return mean |a_new - a_old| / reach of the averaged or the exploring actor, the larger.

    Only dimensions that an edit can move count; without any, nothing changes.

    Args:
        composer: The composer's constants.
        probe: N states.
        old: Weights; their base isn't asked, the probe holds its actions.
        new: The same.
    """
    moves = np.flatnonzero(composer.residual_scale)
    if len(moves) == 0:
        return jnp.zeros(())
    difference = _actions(composer, probe, new) - _actions(composer, probe, old)
    share = (
        jnp.abs(difference[..., moves]) / jnp.asarray(composer.residual_scale, jnp.float32)[moves]
    )
    return share.mean((1, 2)).max()


def check_candidate(
    composer: ActionComposer,
    probe: ProbeStates,
    guard_state: GuardState,
    candidate: PolicyWeights,
    updates: int,
    td_error: float | None = None,
    largest_return: float = 0.0,
) -> tuple[GuardState, GuardDecision]:
    """Return what the gate remembers from now on, and whether the candidate may be published.

    Args:
        composer: The composer's constants, and the config with the thresholds.
        probe: N states.
        guard_state: What the gate remembers.
        candidate: Weights to judge.
        updates: That made them.
        td_error: Mean held-out TD error [reward]; None where it doesn't count yet.
        largest_return: Largest return of an episode so far [reward]; 0 while all were nothing.
    """
    config, nan = composer.config, float("nan")
    refused = guard_state._replace(
        consistent_refusals=0, refusals=guard_state.refusals + 1, updates=updates
    )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(candidate)):
        return refused, GuardDecision(
            False, "weights are not finite", nan, refused.refusals, finite=False
        )
    accepted = GuardState(candidate, candidate, updates=updates)
    if guard_state.good is None or guard_state.last is None:
        return accepted, GuardDecision(True, "", nan, 0)
    moved = _change(composer, probe, guard_state.good, candidate)
    refused = refused._replace(last=candidate)
    limit = config.gate_td_error * largest_return
    if td_error is not None and limit > 0 and not td_error <= limit:
        reason = (
            f"held-out TD error {td_error:.3g} is above {limit:.3g} "
            f"(learner.gate_td_error {config.gate_td_error:g} of the largest return)"
        )
        return refused, GuardDecision(False, reason, moved, refused.refusals)
    allowed = config.gate_action_change * max(1.0, (updates - guard_state.updates) / BURST)
    if moved <= allowed:
        return accepted, GuardDecision(True, "", moved, 0)
    moved_since = _change(composer, probe, guard_state.last, candidate)
    near = moved_since <= allowed
    consistent_refusals = guard_state.consistent_refusals + 1 if near else 1
    if consistent_refusals > config.gate_patience:
        reason = f"actions settled {moved:.2f} of their reach away"
        return accepted, GuardDecision(True, reason, moved, 0)
    reason = (
        f"actions moved by {moved:.2f} of their reach, allowed are {allowed:.2f} "
        f"(learner.gate_action_change {config.gate_action_change:g})"
    )
    refused = refused._replace(consistent_refusals=consistent_refusals)
    return refused, GuardDecision(False, reason, moved, refused.refusals)


def describe_change(
    before: GuardDecision | None, after: GuardDecision, version: int, updates: int
) -> str | None:
    """Return a line for people where the gate shuts or opens, None where nothing changed.

    Args:
        before: The verdict before, if any.
        after: The newest.
        version: That the arm has now.
        updates: Made so far.
    """
    shut = before is not None and not before.accepted
    if not after.accepted and not shut:
        return f"weights of update {updates} refused: {after.reason}; the arm keeps v{version}"
    if after.accepted and shut and before is not None:
        why = f": {after.reason}" if after.reason else ""
        return f"weights accepted again as v{version} after {before.refusals} refusals{why}"
    return None


def _change(
    composer: ActionComposer, probe: ProbeStates, old: PolicyWeights, new: PolicyWeights
) -> float:
    return float(action_change(composer, probe, old._replace(base=None), new._replace(base=None)))


def _actions(composer: ActionComposer, probe: ProbeStates, weights: PolicyWeights) -> jax.Array:
    state = normalise(weights.normaliser, jnp.asarray(probe.state))
    noise = jnp.zeros(probe.context.action.shape, jnp.float32)
    acted = [
        composer.act(actor, weights.critic, state, probe.context, noise, 1.0).action
        for actor in (weights.actor, weights.ema_actor)
    ]
    return jnp.stack(acted)
