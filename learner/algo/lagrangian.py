"""What a step's cost is worth in reward: a fixed weight, or one that follows a budget.

    price <- max(0, price + rate (cost of the episode - budget))

Source:
    C. Tessler, D. J. Mankowitz, S. Mannor, "Reward Constrained Policy Optimization", 2019: dual
    ascent on the constraint's multiplier; the cost is that of "Towards Passive Safe Reinforcement
    Learning" (arXiv 2503.00287), energy asked of the controller.
"""

from __future__ import annotations

from handrail.transition import Source, Transition
from learner.config import LearnerConfig


class CostMultiplier:
    """Follows the episodes that the policy drove alone; a function of the rows alone."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self.value = config.cost_weight  # [reward/cost]
        self.last_cost = 0.0  # of the last whole episode
        self._open: dict[int, tuple[int, float, bool]] = {}  # actor: episode, cost, helped

    def add(self, row: Transition, actor: int) -> bool:
        """Take in a row; return whether an episode ended with it."""
        if row.source != Source.ONLINE:
            return False
        episode, cost, helped = self._open.get(actor, (row.episode, 0.0, False))
        if episode != row.episode:
            cost, helped = 0.0, False  # the one before was cut
        cost, helped = cost + row.cost, helped or row.intervened
        self._open[actor] = (row.episode, cost, helped)
        if not (row.terminated or row.truncated):
            return False
        del self._open[actor]
        if helped:
            return False
        self.last_cost = cost
        if self._config.cost_budget is not None:
            change = self._config.cost_lr * (cost - self._config.cost_budget)
            self.value = max(0.0, self.value + change)
        return True
