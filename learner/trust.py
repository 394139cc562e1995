"""How far edits of the base are trusted: their reach grows, and halves where they do worse.

    gain = at + (env steps - since) / ramp, within 0 .. 1

It begins as at = 0 when learning begins. The base's own success rate is known from the episodes
that it rolled out before. Whenever so few of the newest episodes succeeded that the base would have
done no better in less than `retreat` of all cases, `at` becomes half the gain and grows anew from
there: where critics that saw little but the base are wrong, the arm is closer to it for a while.

Source:
    The chance is the beta-binomial tail, the base's rate having Jeffreys' prior.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from handrail.transition import Source, Transition
from learner.config import LearnerConfig
from learner.phases import collect_steps, phase

WINDOW = 10  # [episodes], newest, that are judged


class Ramp(NamedTuple):
    """Where the gain's growth began."""

    at: float  # [-], gain then
    since: int  # [env steps]


def begun(config: LearnerConfig) -> Ramp:
    """Return where a run's ramp begins."""
    return Ramp(0.0, collect_steps(config))


def gain(config: LearnerConfig, ramp: Ramp, env_steps: int, updates: int) -> float:
    """Return the share of its reach that an edit of the base has now, in [0, 1]."""
    online = phase(config, env_steps, updates) == "online"
    return reached(config, ramp, env_steps) if online else 0.0


def reached(config: LearnerConfig, ramp: Ramp, env_steps: int) -> float:
    """Return the gain that a ramp has come to, in [0, 1]; 1 where there is no ramp."""
    length = config.ramp * config.total_steps
    grown = max(0, env_steps - ramp.since)  # another actor may have counted less
    return min(1.0, ramp.at + grown / length) if length > 0 else 1.0


def chance(wins: int, episodes: int, base_wins: int, base_episodes: int) -> float:
    """Return the probability that the base wins so few times or fewer, given what it has shown.

    Args:
        wins: At most so many.
        episodes: Of so many.
        base_wins: Seen of the base.
        base_episodes: In so many.
    """
    a, b = base_wins + 0.5, base_episodes - base_wins + 0.5

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    return sum(
        math.comb(episodes, k) * math.exp(log_beta(k + a, episodes - k + b) - log_beta(a, b))
        for k in range(wins + 1)
    )


class Trust:
    """Follows the episodes that nobody helped in; a function of the rows alone."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self.ramp = begun(config)
        self.retreats = 0
        self._env_steps = 0
        self._base: list[bool] = []  # whether each episode before learning succeeded
        self._recent: deque[bool] = deque(maxlen=WINDOW)  # the same of those since the ramp began
        self._open: dict[int, tuple[int, int, bool]] = {}  # actor: episode, first step, helped

    def add(self, row: Transition, actor: int) -> None:
        """Take in a row; rows of one actor come in order."""
        if row.source != Source.ONLINE or row.end:
            return
        episode, first, helped = self._open.get(actor, (-1, 0, False))
        if episode != row.episode:
            first, helped = self._env_steps, False
        helped |= row.intervened
        self._open[actor] = (row.episode, first, helped)
        self._env_steps += 1
        if (row.terminated or row.truncated) and not helped:
            self._judge(first, row.success)

    def _judge(self, first: int, success: bool) -> None:
        if first < collect_steps(self._config):
            self._base.append(success)
            return
        if first < self.ramp.since:
            return  # begun with another reach
        self._recent.append(success)
        tail = chance(sum(self._recent), len(self._recent), sum(self._base), len(self._base))
        if tail < self._config.retreat:
            half = reached(self._config, self.ramp, self._env_steps) / 2
            self.ramp = Ramp(half, self._env_steps)
            self.retreats += 1
            self._recent.clear()
