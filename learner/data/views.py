"""Which rows of the replay are trained on as what, and how a minibatch is drawn from them."""

from __future__ import annotations

import numpy as np

from handrail.errors import Error
from learner.config import LearnerConfig
from learner.data.index_set import IndexSet
from learner.data.sampling import draw_prior_data, draw_thinned


class TrainingViews:
    """Sets of slots: online, prior data with its two parts, and what is held out."""

    def __init__(self, size: int) -> None:
        """Begin empty.

        Args:
            size: Slots of the ring.
        """
        self.online = IndexSet(size)
        # demonstrations, interventions, and successes if asked for
        self.prior_data = IndexSet(size)
        self.demonstrations = IndexSet(size)  # those of the prior data that nobody intervened in
        self.interventions = IndexSet(size)  # the others
        self.holdout = IndexSet(size)  # steps of episodes that are never trained on

    def add(self, slot: int, demo: bool, online: bool, intervened: bool, held_out: bool) -> None:
        """Put a slot where it belongs.

        Args:
            slot: Of a row that a window can start at.
            demo: It is a demonstration's.
            online: It is a training roll-out's.
            intervened: A person drove it.
            held_out: Its episode is never trained on.
        """
        if held_out:
            self.holdout.add(slot)
            return
        if online:
            self.online.add(slot)
        if demo or intervened:
            self.prior_data.add(slot)
            (self.interventions if intervened else self.demonstrations).add(slot)

    def promote(self, slot: int) -> None:
        """Make a slot of an autonomous success prior data too."""
        self.prior_data.add(slot)
        self.demonstrations.add(slot)

    def remove(self, slot: int) -> None:
        """Take a slot out of every set."""
        for view in (
            self.online,
            self.prior_data,
            self.demonstrations,
            self.interventions,
            self.holdout,
        ):
            view.remove(slot)

    def draw(
        self,
        config: LearnerConfig,
        pre_intervention: np.ndarray,
        count: int,
        rng: np.random.Generator,
        batches: int = 1,
    ) -> np.ndarray:
        """Return the slots (batches * count,) int64 where windows start.

        Each minibatch has its share of prior data first; while one view is empty, the other fills
        in.

        Args:
            config: Says the shares and weights.
            pre_intervention: Slots that led to a take-over, (capacity,) bool.
            count: B, rows of a minibatch.
            rng: Source of chance.
            batches: U.

        Raises:
            Error: There is nothing to draw from.
        """
        num_prior = round(count * config.demo_fraction)
        if len(self.prior_data) == 0:
            num_prior = 0
        elif len(self.online) == 0:
            num_prior = count
        if num_prior < count and len(self.online) == 0:
            raise Error("replay holds no complete step to learn from; add rows first")
        start = np.empty((batches, count), np.int64)
        if num_prior > 0:
            start[:, :num_prior] = self._draw_prior_data(config, rng, (batches, num_prior))
        if num_prior < count:
            shape, weight = (batches, count - num_prior), config.pre_intervention_weight
            start[:, num_prior:] = draw_thinned(self.online, pre_intervention, weight, rng, shape)
        return start.reshape(-1)

    def _draw_prior_data(
        self, config: LearnerConfig, rng: np.random.Generator, shape: tuple[int, int]
    ) -> np.ndarray:
        share = config.intervention_share
        if share is None:
            return self.prior_data.draw(rng, shape)
        return draw_prior_data(self.demonstrations, self.interventions, share, rng, shape)
