"""The one account of episodes in progress and of env steps; whoever needs it subscribes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from handrail.episode_label import EpisodeLabel
from handrail.transition import Source, Transition


@dataclass(slots=True)
class Episode:
    """What the steps of an episode have come to so far."""

    number: int  # [-], within its actor's run
    first: int  # [env steps], of all actors when it began
    held_out: bool = False  # whether nothing is trained on it
    cost: float = 0.0  # [-], sum over its steps
    helped: bool = False  # whether a person drove a step
    edited: bool = False  # whether a step was not the base's own
    driven: bool = False  # whether a person drove the newest step
    over: bool = False  # whether the newest step was its last: terminated or truncated
    success: bool = False  # of the newest step


class LoggedRow(NamedTuple):
    """A row, and where it stands in its actor's run."""

    row: Transition
    actor: int  # number of the actor
    episode: Episode  # that it belongs to, with this row
    before: Episode | None  # of this actor and source, where this row is the first of another
    after_driven: bool  # whether a person drove the step before


class Subscriber(Protocol):
    """Whoever follows the episodes of a run."""

    def on_row(self, logged: LoggedRow) -> None:
        """Take note of a row; the log's `env_steps` don't count it yet."""
        ...

    def on_label(self, label: EpisodeLabel, actor: int) -> None:
        """Take note of what is said of an episode after the fact."""
        ...


class EpisodeLog:
    """Follows the rows of all actors and tells the subscribers, in the order they came in."""

    def __init__(self, held_out: Callable[[int, int], bool] = lambda actor, number: False) -> None:
        """Begin an empty account.

        Args:
            held_out: Says of actor and number of an episode whether nothing is trained on it.
        """
        self._held_out = held_out
        self.env_steps = 0  # training steps
        self._open: dict[tuple[int, int], Episode] = {}  # newest, by actor and source
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell somebody of every row and label from now on."""
        self._subscribers.append(subscriber)

    def add(self, row: Transition, actor: int = 0) -> None:
        """Take in a row; rows of one actor come in order, those of several may be interleaved."""
        key = actor, row.source
        last = self._open.get(key)
        before = None
        after_driven = last is not None and row.t > 0 and last.driven
        if last is None or last.number != row.episode:
            held_out = self._held_out(actor, row.episode)
            begun = Episode(row.episode, self.env_steps, held_out)
            if not row.end:  # else nothing but its end came
                before, self._open[key] = last, begun
            last = begun
        if not row.end:
            last.cost += row.cost
            last.helped |= row.intervened
            last.edited = last.edited or not np.array_equal(row.policy_action, row.base_action)
            last.driven = row.intervened
            last.over = row.terminated or row.truncated
            last.success = row.success
        for subscriber in self._subscribers:
            subscriber.on_row(LoggedRow(row, actor, last, before, after_driven))
        self.env_steps += row.source == Source.ONLINE and not row.end

    def label(self, label: EpisodeLabel, actor: int = 0) -> None:
        """Take in what is said of an episode of an actor after the fact."""
        for subscriber in self._subscribers:
            subscriber.on_label(label, actor)
