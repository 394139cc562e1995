"""What a learner holds of a run, counted row by row; an actor that restarts asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from handrail.transition import Source, Transition


@dataclass
class Ledger:
    """Counts that tell an actor where its run stands."""

    rows: int = 0
    demos: int = 0  # successful demonstrations
    env_steps: int = 0  # training steps
    episodes: int = 0  # one more than the highest episode number

    def add(self, row: Transition) -> None:
        """Count a row."""
        self.rows += 1
        if row.source != Source.EVAL:
            self.episodes = max(self.episodes, row.episode + 1)
        if row.source == Source.DEMO and row.success:
            self.demos += 1
        if row.source == Source.ONLINE and not row.end:
            self.env_steps += 1
