"""Late labels: what a person, or a classifier, says of an episode after its rows were sent.

A label travels as the rows do: with a sequence number, through the spool, into the store. Rows are
never rewritten; a label stands behind them, and whoever reads the rows applies it. The newest label
of an episode counts. `handrail.link.label_codec` writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from handrail.transition import Transition


class Outcome(IntEnum):
    """What is said of an episode."""

    SUCCESS = 1  # its last step reached the goal
    FAILURE = 2  # it did not, whatever was said before
    ABORT = 3  # something was wrong with it: never train on it


@dataclass(frozen=True, slots=True)
class EpisodeLabel:
    """The outcome of one recorded or training episode of one actor, as it was said afterwards."""

    actor: str  # name of the actor
    episode: int  # [-], its number within the actor's run
    outcome: Outcome
    success_reward: float = 1.0  # reward that a success has and a failure hasn't

    def apply(self, last: Transition) -> Transition:
        """Return the episode's last step as the label has it; rows of an abort stay as they are."""
        success = self.outcome == Outcome.SUCCESS
        if self.outcome == Outcome.ABORT or success == last.success:
            return last
        reward = last.reward + (self.success_reward if success else -self.success_reward)
        return replace(last, reward=reward, success=success, terminated=success)
