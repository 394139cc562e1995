"""What a learner holds of a run, counted row by row; an actor that restarts asks for it."""

from __future__ import annotations

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.transition import Source
from learner.episode_log import EpisodeLog, LoggedRow


class RunProgress:
    """Counts that tell an actor where its run stands."""

    def __init__(self, log: EpisodeLog) -> None:
        """Follow a log from its beginning.

        Args:
            log: Of the run's episodes, nothing in it yet.
        """
        self._log = log
        log.subscribe(self)
        self.rows = 0  # and labels
        self.episodes = 0  # one more than the highest episode number
        self.human_steps = 0  # training steps that a person drove
        self.takeovers = 0  # times that a person took the arm
        self._actors: dict[str, int] = {}
        self._demos: dict[tuple[int, int], bool] = {}  # whether each succeeded, by actor and number
        self._labels: dict[tuple[int, int], Outcome] = {}

    @property
    def env_steps(self) -> int:
        """Training steps."""
        return self._log.env_steps

    @property
    def demos(self) -> int:
        """Successful demonstrations."""
        return sum(self._demos.values())

    def number(self, actor: str) -> int:
        """Return the number of an actor: 0 for the first that was heard, and so on."""
        return self._actors.setdefault(actor, len(self._actors))

    def counts(self) -> dict[str, int]:
        """Return every count by its name."""
        names = ("rows", "demos", "env_steps", "episodes", "human_steps", "takeovers")
        return {name: getattr(self, name) for name in names}

    def on_row(self, logged: LoggedRow) -> None:
        """Count a row."""
        row = logged.row
        self.rows += 1
        if row.source != Source.EVAL:
            self.episodes = max(self.episodes, row.episode + 1)
        if row.source == Source.DEMO:
            key = logged.actor, row.episode
            verdict = self._labels.get(key)
            done = row.success if verdict is None else verdict == Outcome.SUCCESS
            self._demos[key] = self._demos.get(key, False) or done
        if row.source == Source.ONLINE and not row.end:
            self.human_steps += row.intervened
            self.takeovers += row.intervened and not logged.after_driven

    def on_label(self, label: EpisodeLabel, actor: int) -> None:
        """Count what is said of an episode: a demonstration succeeded, or did not after all."""
        self.rows += 1
        key = actor, label.episode
        self._labels[key] = label.outcome
        if key in self._demos:
            self._demos[key] = label.outcome == Outcome.SUCCESS
