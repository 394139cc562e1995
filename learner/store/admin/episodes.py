"""The episodes of a store: what they came to, and their arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.transition import Source, Transition
from learner.store.store import Store


@dataclass
class StoredEpisode:
    """One unbroken stretch of an episode's rows."""

    actor: str
    session: str
    source: int
    number: int  # of the episode within the actor's run
    first: int  # cursor of its first row
    last: int = 0  # cursor of its last row
    steps: int = 0
    reward: float = 0.0  # sum
    success: bool = False
    intervened: int = 0  # [steps]
    whole: bool = False  # it has its end row
    label: EpisodeLabel | None = None
    seqs: list[int] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """Return success, failure or cut, or what a label says."""
        if self.label is not None:
            return f"{self.label.outcome.name.lower()} (label)"
        return "success" if self.success else "failure" if self.whole else "cut"


def episodes(store: Store) -> list[StoredEpisode]:
    """Return every episode in order of its first row, from the rows' headers alone."""
    labels = store.labels()
    found: list[StoredEpisode] = []
    open_: dict[str, tuple[StoredEpisode, int]] = {}
    for head in store.headers():
        episode, t = open_.get(head.session, (None, -1))
        key = (head.source, head.episode)
        if episode is None or (episode.source, episode.number) != key or head.t != t + 1:
            episode = StoredEpisode(
                head.actor, head.session, head.source, head.episode, head.cursor
            )
            if head.trained:
                episode.label = labels.get((head.actor, head.episode))
            found.append(episode)
        open_[head.session] = episode, head.t
        episode.last = head.cursor
        episode.seqs.append(head.seq)
        episode.whole |= head.end
        if not head.end:
            episode.steps += 1
            episode.reward += head.reward
            episode.success |= head.success
            episode.intervened += head.intervened
    return found


def arrays(store: Store) -> Iterator[tuple[StoredEpisode, dict[str, np.ndarray]]]:
    """Yield each episode with its arrays, as the labels have it.

    Yields:
        The episode and, by name: state (T + 1, S), images/<name> (T + 1, H, W, 3) where the episode
        is whole, else T of each; action, policy_action, filter_delta, base_action (T, A);
        base_pos, base_valid, reward, terminated, truncated, success, intervened, cost,
        violation (T,).
    """
    todo = {(episode.session, episode.seqs[0]): episode for episode in episodes(store)}
    open_: dict[str, tuple[StoredEpisode, list[Transition]]] = {}
    for arrival in store.labelled_rows():
        begun = todo.get((arrival.session, arrival.seq))
        if begun is not None:
            open_[arrival.session] = begun, []
        episode, rows = open_[arrival.session]
        rows.append(arrival.row)
        if arrival.cursor == episode.last:
            yield episode, stack(rows)
            rows.clear()


_STEPWISE = [
    "action",
    "policy_action",
    "filter_delta",
    "base_action",
    "base_pos",
    "base_valid",
    "reward",
    "terminated",
    "truncated",
    "success",
    "intervened",
    "cost",
    "violation",
]


def stack(rows: list[Transition]) -> dict[str, np.ndarray]:
    """Return the arrays of one episode's rows, see `arrays`."""
    steps = [row for row in rows if not row.end]
    found = {"state": np.stack([row.state for row in rows])}
    for name in rows[0].images:
        found[f"images/{name}"] = np.stack([row.images[name] for row in rows])
    for name in _STEPWISE if steps else ():
        found[name] = np.stack([np.asarray(getattr(row, name)) for row in steps])
    return found


def describe(episode: StoredEpisode) -> dict[str, object]:
    """Return an episode's plain values, for a line of JSON."""
    aborted = episode.label is not None and episode.label.outcome == Outcome.ABORT
    success = episode.success
    if episode.label is not None and not aborted:
        success = episode.label.outcome == Outcome.SUCCESS
    return {
        "actor": episode.actor,
        "source": Source(episode.source).name.lower(),
        "episode": episode.number,
        "steps": episode.steps,
        "success": success,
        "aborted": aborted,
        "whole": episode.whole,
        "intervened_steps": episode.intervened,
        "first_row": episode.first,
        "last_row": episode.last,
        "session": episode.session,
    }
