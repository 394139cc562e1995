"""The arrays that an update sees."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from learner.bases.protocol import BaseContext


class Rows(NamedTuple):
    """U packed minibatches of B rows, as replay gathers them: three arrays, so that few move."""

    now: np.ndarray  # (U, B, S + 2 A + 3): state, action, base action, position, valid, is_prior
    nxt: np.ndarray  # the same columns, of the row that the return bootstraps from
    extra: np.ndarray  # (U, B, 2): return and discount


class Slots(NamedTuple):
    """The same minibatches by the numbers of their rows."""

    slots: np.ndarray  # (U, B, 2) int32: of `now` and of `nxt`
    extra: np.ndarray  # (U, B, 2): return and discount


class Resident(NamedTuple):
    """Minibatches whose rows lie on the device already."""

    rows: jax.Array  # (capacity, S + 2 A + 3)
    chosen: Slots


class Batch(NamedTuple):
    """Rows with n-step returns, shape (B, ...), or (U, B, ...) for U updates."""

    state: jax.Array  # (B, S)
    action: jax.Array  # (B, A), executed
    context: BaseContext  # of the base at `state`
    next_state: jax.Array  # (B, S), k <= n steps later
    next_context: BaseContext
    reward: jax.Array  # (B,), sum of discount^i r_i over the k steps
    discount: jax.Array  # (B,), discount^k, or 0 where nothing follows
    is_prior: jax.Array  # (B,), 1 where the action is a demonstration's or a person's


def gather(packed: Rows | Resident) -> Rows:
    """Return packed minibatches as rows; within a compiled call, so that they never leave it."""
    if not isinstance(packed, Resident):
        return Rows(*packed)
    slots, extra = packed.chosen
    now, nxt = (packed.rows.at[slots[..., i]].get(mode="promise_in_bounds") for i in range(2))
    return Rows(now, nxt, extra)  # type: ignore[arg-type]


def unpack(now: jax.Array, nxt: jax.Array, extra: jax.Array, state: int, action: int) -> Batch:
    """Return the batch that replay packs in three arrays, so that only three are moved.

    Args:
        now: (..., S + 2 A + 3): state, action, base action, position, valid, is_prior.
        nxt: The same columns, of the row that the return bootstraps from.
        extra: (..., 2): return and discount.
        state: S.
        action: A.
    """
    base = state + action
    return Batch(
        state=now[..., :state],
        action=now[..., state:base],
        context=_context(now, base, action),
        next_state=nxt[..., :state],
        next_context=_context(nxt, base, action),
        reward=extra[..., 0],
        discount=extra[..., 1],
        is_prior=now[..., base + action + 2],
    )


def _context(rows: jax.Array, base: int, action: int) -> BaseContext:
    end = base + action
    return BaseContext(rows[..., base:end], rows[..., end], rows[..., end + 1])
