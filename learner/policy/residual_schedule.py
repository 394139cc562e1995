"""How far edits of the base are trusted: in training by degrees, in an evaluation once proven.

    gain = at + (env steps - since) / ramp, within 0 .. 1

It begins as at = 0 when learning begins. The base's own success rate is known from the episodes
that it rolled out before. Whenever so few of the newest episodes succeeded that the base would have
done no better in less than `backoff_level` of all cases, `at` becomes half the gain and grows anew
from there: where critics that saw little but the base are wrong, the arm is closer to it for a
while.

Evaluations are the base's until edits are proven (`require_improvement`): the chance that they
succeed more often than the base, given the record of both, is at least

    1 - env steps / budget / 2, and one half beyond the budget

so the burden of proof falls from certainty to more likely than not. At first edits are often worse
than a good base; at the end whoever deploys wants the likelier of the two. Training's quiet
episodes go as evaluations would and without noise but edited, by turns, and add to either record.

Source:
    Both rates have Jeffreys' prior; the chance of the tail is the beta-binomial's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.transition import Source
from learner.algo.schedule import collect_steps
from learner.config import LearnerConfig
from learner.episode_log import Episode, EpisodeLog, LoggedRow
from learner.policy.ramp import ScaleRamp, gain_at, initial_ramp

WINDOW = 10  # [episodes], newest, that a retreat is judged by; a proof needs so many
IMPROVEMENT_WINDOW = 20  # [episodes], newest, that a proof is judged by; of quiet ones alone WINDOW
QUANTILES = (np.arange(256) + 0.5) / 256


class ScoredEpisode(NamedTuple):
    """What is known of a finished training episode."""

    number: int
    helped: bool  # whether a person drove a step
    success: bool
    aborted: bool  # whether somebody said that it is not to count


Record = dict[tuple[int, int], ScoredEpisode]  # by actor and number, in the order of their ends


def betabinom_cdf(wins: int, episodes: int, base_wins: int, base_episodes: int) -> float:
    """Return the probability that the base wins so few times or fewer, given what it has shown.

    Args:
        wins: At most so many.
        episodes: Of so many.
        base_wins: Seen of the base.
        base_episodes: In so many.
    """
    from scipy.stats import betabinom  # takes half a second, which most processes never need

    prior = (base_wins + 0.5, base_episodes - base_wins + 0.5)
    return float(betabinom.cdf(wins, episodes, *prior))


@lru_cache(256)
def prob_better(wins: int, episodes: int, base_wins: int, base_episodes: int) -> float:
    """Return the probability that edits win more often than the base, given what both have shown.

    Args:
        wins: Seen of the edits.
        episodes: In so many.
        base_wins: Seen of the base.
        base_episodes: In so many.
    """
    rates = betaincinv(wins + 0.5, episodes - wins + 0.5, QUANTILES)
    return float(betainc(base_wins + 0.5, base_episodes - base_wins + 0.5, rates).mean())


def success_counts(
    record: Record, newest: int | None = None, alone: bool = True, every: int = 1
) -> tuple[int, int]:
    """Return how many episodes of a record succeeded by themselves, and of how many.

    Args:
        record: Of the base or of edits.
        newest: Count so many at most; None for all.
        alone: Leave out those that were helped; else each is one that didn't succeed by itself.
        every: Count every so many-th alone, by its number.
    """
    asked = [e for e in record.values() if e.number % every == 0]
    counted = [e for e in asked if not (e.aborted or (alone and e.helped))]
    counted = counted[-newest:] if newest else counted
    return sum(e.success and not e.helped for e in counted), len(counted)


class ResidualSchedule:
    """Follows the training episodes; a function of rows and labels alone.

    An episode is judged when its actor begins the next, so that a label which a person gives at its
    end is in time. Where help was given, nobody can say how it would have gone: no retreat follows
    from it. For a proof it counts as a failure, of the base as of edits: leaving it out would leave
    those that went well without help. And once somebody helped at all, only quiet episodes prove
    anything, which a person is asked to leave alone: elsewhere a success says as much of the
    person's patience.
    """

    def __init__(self, config: LearnerConfig, log: EpisodeLog) -> None:
        """Follow a log from now on.

        Args:
            config: Table [learner].
            log: Of the run's episodes.
        """
        self._config, self.log = config, log
        log.subscribe(self)
        self.ramp = initial_ramp(config)
        self.backoffs = 0
        self._base: Record = {}
        self._edits: Record = {}  # since the ramp began
        self._helped = False  # whether a person ever drove a step
        self._verdicts: dict[tuple[int, int], Outcome] = {}

    @property
    def improved(self) -> bool:
        """Whether edits have shown that they do better than the base."""
        if not self._config.require_improvement:
            return True
        unassisted_only = self._helped and self._config.noise_free_every > 0
        every, newest = (
            (self._config.noise_free_every, WINDOW) if unassisted_only else (1, IMPROVEMENT_WINDOW)
        )
        wins, episodes = success_counts(self._edits, newest, alone=False, every=every)
        base = success_counts(self._base, alone=False, every=every)
        required_confidence = 1.0 - min(1.0, self.log.env_steps / self._config.total_steps) / 2
        return episodes >= WINDOW and prob_better(wins, episodes, *base) >= required_confidence

    def on_row(self, logged: LoggedRow) -> None:
        """Judge an episode once its actor begins the next."""
        if logged.row.source != Source.ONLINE or logged.row.end:
            return
        if logged.before is not None and logged.before.over:
            self._score_episode(logged.actor, logged.before)
        self._helped |= logged.row.intervened

    def on_label(self, label: EpisodeLabel, actor: int) -> None:
        """Take in what is said of an episode after the fact.

        Args:
            label: On an episode of that actor.
            actor: Number of the actor whose episode it is.
        """
        key = (actor, label.episode)
        self._verdicts[key] = label.outcome
        for record in (self._base, self._edits):
            if key in record:
                self._enter(record, key, record[key])

    def _score_episode(self, actor: int, episode: Episode) -> None:
        key = (actor, episode.number)
        if episode.first < collect_steps(self._config) or not episode.edited:
            self._enter(self._base, key, episode)
            return
        if episode.first < self.ramp.since:
            return  # begun with another reach
        self._enter(self._edits, key, episode)
        if episode.helped:
            return
        tail = betabinom_cdf(*success_counts(self._edits, WINDOW), *success_counts(self._base))
        if tail < self._config.backoff_level:
            half = gain_at(self._config, self.ramp, self.log.env_steps) / 2
            self.ramp = ScaleRamp(half, self.log.env_steps)
            self.backoffs += 1
            self._edits.clear()

    def _enter(
        self, record: Record, key: tuple[int, int], episode: Episode | ScoredEpisode
    ) -> None:
        verdict = self._verdicts.get(key)
        success = episode.success if verdict is None else verdict == Outcome.SUCCESS
        aborted = verdict == Outcome.ABORT
        record[key] = ScoredEpisode(episode.number, episode.helped, success, aborted)
