"""What a learner holds of a run, counted row by row; an actor that restarts asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.transition import Source, Transition


@dataclass
class RunProgress:
    """Counts that tell an actor where its run stands."""

    rows: int = 0  # and labels
    demos: int = 0  # successful demonstrations
    env_steps: int = 0  # training steps
    episodes: int = 0  # one more than the highest episode number
    human_steps: int = 0  # training steps that a person drove
    takeovers: int = 0  # times that a person took the arm
    _actors: dict[str, int] = field(default_factory=dict)
    _demos: dict[tuple[str, int], bool] = field(default_factory=dict)  # whether each succeeded
    _labels: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    _driven: dict[str, bool] = field(default_factory=dict)  # whether a person drove the last step

    def number(self, actor: str) -> int:
        """Return the number of an actor: 0 for the first that was heard, and so on."""
        return self._actors.setdefault(actor, len(self._actors))

    def counts(self) -> dict[str, int]:
        """Return every count by its name."""
        names = ("rows", "demos", "env_steps", "episodes", "human_steps", "takeovers")
        return {name: getattr(self, name) for name in names}

    def add(self, row: Transition, actor: str) -> None:
        """Count a row."""
        self.rows += 1
        if row.source != Source.EVAL:
            self.episodes = max(self.episodes, row.episode + 1)
        if row.source == Source.DEMO:
            key = actor, row.episode
            verdict = self._labels.get(key)
            done = row.success if verdict is None else verdict == Outcome.SUCCESS
            self._demos[key] = self._demos.get(key, False) or done
            self.demos = sum(self._demos.values())
        if row.source == Source.ONLINE and not row.end:
            self.env_steps += 1
            self.human_steps += row.intervened
            self.takeovers += row.intervened and not (row.t > 0 and self._driven.get(actor, False))
            self._driven[actor] = row.intervened

    def label(self, label: EpisodeLabel) -> None:
        """Count what is said of an episode: a demonstration succeeded, or did not after all."""
        self.rows += 1
        key = label.actor, label.episode
        self._labels[key] = label.outcome
        if key in self._demos:
            self._demos[key] = label.outcome == Outcome.SUCCESS
            self.demos = sum(self._demos.values())
