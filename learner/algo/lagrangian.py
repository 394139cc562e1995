"""What a step's cost is worth in reward: a fixed weight, or one that follows a budget.

    price <- max(0, price + rate (cost of the episode - budget))

Source:
    C. Tessler, D. J. Mankowitz, S. Mannor, "Reward Constrained Policy Optimization", 2019: dual
    ascent on the constraint's multiplier; the cost is that of "Towards Passive Safe Reinforcement
    Learning" (arXiv 2503.00287), energy asked of the controller.
"""

from __future__ import annotations

from handrail.episode_label import EpisodeLabel
from handrail.transition import Source
from learner.config import LearnerConfig
from learner.episode_log import EpisodeLog, LoggedRow


class CostMultiplier:
    """Follows the episodes that the policy drove alone; a function of the rows alone."""

    def __init__(self, config: LearnerConfig, log: EpisodeLog) -> None:
        """Follow a log from now on.

        Args:
            config: Table [learner].
            log: Of the run's episodes.
        """
        self._config = config
        log.subscribe(self)
        self.value = config.cost_weight  # [reward/cost]
        self.last_cost = 0.0  # of the last whole episode

    def on_row(self, logged: LoggedRow) -> None:
        """Move the multiplier at the end of an episode that nobody helped."""
        row, episode = logged.row, logged.episode
        ended = row.terminated or row.truncated
        if row.source != Source.ONLINE or not ended or episode.helped:
            return
        self.last_cost = episode.cost
        if self._config.cost_budget is not None:
            change = self._config.cost_lr * (episode.cost - self._config.cost_budget)
            self.value = max(0.0, self.value + change)

    def on_label(self, label: EpisodeLabel, actor: int) -> None:
        """Do nothing: what a step cost doesn't depend on what is said of its episode."""
