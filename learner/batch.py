"""The arrays that an update sees."""

from __future__ import annotations

from typing import NamedTuple

import jax

from learner.operator import BaseContext


class Batch(NamedTuple):
    """Rows with n-step returns, shape (B, ...), or (U, B, ...) for U updates."""

    state: jax.Array  # (B, S)
    action: jax.Array  # (B, A), executed
    context: BaseContext  # of the base at `state`
    next_state: jax.Array  # (B, S), k <= n steps later
    next_context: BaseContext
    reward: jax.Array  # (B,), sum of discount^i r_i over the k steps
    discount: jax.Array  # (B,), discount^k, or 0 where nothing follows
    anchor: jax.Array  # (B,), 1 where the action is a demonstration's or a person's


def unpack(now: jax.Array, nxt: jax.Array, extra: jax.Array, state: int, action: int) -> Batch:
    """Return the batch that replay packs in three arrays, so that only three are moved.

    Args:
        now: (..., S + 2 A + 3): state, action, base action, position, valid, anchor.
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
        anchor=now[..., base + action + 2],
    )


def _context(rows: jax.Array, base: int, action: int) -> BaseContext:
    end = base + action
    return BaseContext(rows[..., base:end], rows[..., end], rows[..., end + 1])
