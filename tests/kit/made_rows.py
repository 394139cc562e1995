"""Rows for tests of the learner."""

from __future__ import annotations

import numpy as np

from handrail.spec import EnvSpec
from handrail.transition import Source, Transition

SPEC = EnvSpec("rows", "rows", 10.0, 50, {"x": (0, 3)}, 2)


def make_row(episode: int, t: int, source: Source = Source.ONLINE, **values) -> Transition:
    """Return a row whose state tells its episode and step."""
    zero = np.zeros(SPEC.action, np.float32)
    fields = {
        "state": np.asarray([episode, t, 1.0], np.float32),
        "action": np.asarray([np.sin(t), np.cos(episode)], np.float32),
        "policy_action": zero,
        "filter_delta": zero,
        "base_action": zero + np.float32(0.1 * (t % 3)),
        "base_pos": t % 3,
        "base_valid": True,
    }
    return Transition(episode=episode, t=t, source=source, **{**fields, **values})


def make_episode(
    episode: int,
    length: int,
    source: Source = Source.ONLINE,
    *,
    success: bool = True,
    reward: float = 0.0,
) -> list[Transition]:
    """Return an episode that ends in success (terminated) or by time (truncated), with end row."""
    rows = []
    for t in range(length):
        last = t == length - 1
        rows.append(
            make_row(
                episode,
                t,
                source,
                reward=reward + float(last and success),
                terminated=last and success,
                truncated=last and not success,
                success=last and success,
            )
        )
    return [*rows, make_row(episode, length, source, end=True)]
