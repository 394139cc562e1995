"""A sick learner is said, and ends its run with the last good state kept.

What doesn't come back by itself ends the run: weights that are not finite, weights that the publish
guard has refused for long, and checkpoints that can't be written for long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NoReturn

from handrail.errors import StorageError, TrainingFailed
from handrail.metrics import Metrics
from handrail.processes.exit_record import saving
from learner.policy.publish_guard import GuardDecision, describe_change
from learner.service.restore import checkpoint
from learner.store.checkpoint import Checkpoints
from learner.trainer import Trainer

log = logging.getLogger("learner")

CHECKPOINT_PERIOD = 30.0  # [s]
CHECKPOINT_PATIENCE = 300.0  # [s], without a checkpoint, where the disk refuses them
REFUSED_SHARE = 0.2  # of the run's steps, for which the guard may refuse in a row
REFUSED_STEPS = 1000  # [steps], for which it may in any case


class Health:
    """Watches publications and writes the checkpoints of one trainer."""

    def __init__(
        self,
        trainer: Trainer,
        checkpoints: Checkpoints,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._trainer, self._checkpoints, self._metrics = trainer, checkpoints, metrics
        self._written = self._clock()
        self._tried = self._written
        self._refused_since: int | None = None  # [steps]

    def check_publication(self, before: GuardDecision | None) -> None:
        """Say that the guard shut or opened, and end what it will not open for again.

        Args:
            before: The decision before the newest publication.

        Raises:
            TrainingFailed: The weights are not finite, or have been refused for too long.
        """
        trainer, decision = self._trainer, self._trainer.publication.decision
        assert decision is not None
        text = describe_change(before, decision, trainer.version, trainer.updates)
        if text is not None:
            self._say(text)
        if decision.accepted:
            self._refused_since = None
            return
        if not decision.finite:
            self._fail(f"the weights of update {trainer.updates} are not finite")
        if self._refused_since is None:
            self._refused_since = trainer.env_steps
        refused = trainer.env_steps - self._refused_since
        if refused > max(REFUSED_STEPS, REFUSED_SHARE * trainer.config.total_steps):
            self._fail(f"all weights of the last {refused} steps were refused: {decision.reason}")

    def due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return self._clock() - self._tried >= CHECKPOINT_PERIOD

    def checkpoint_if_due(self) -> None:
        """Write a checkpoint where the last try is long enough ago; a full disk is waited for.

        Raises:
            TrainingFailed: The weights are not finite.
            StorageError: There has been none for too long.
        """
        if not self.due():
            return
        try:
            self.checkpoint()
        except StorageError as error:
            age = self._clock() - self._written
            self._say(f"no checkpoint for {age:.0f} s: {error}")
            if age > CHECKPOINT_PATIENCE:
                raise

    def checkpoint(self) -> None:
        """Write a checkpoint now, if there is anything to keep.

        Raises:
            TrainingFailed: The weights are not finite.
            StorageError: The disk refused; older checkpoints are unharmed.
        """
        self._tried = self._clock()
        if not self._trainer.fitted:
            return
        with saving():
            written = checkpoint(self._trainer, self._checkpoints)
        if not written:
            self._fail(f"the state after update {self._trainer.updates} is not finite")
        self._written = self._clock()

    def _fail(self, why: str) -> NoReturn:
        kept = self._checkpoints.newest_good()
        self._say(why)
        left = f"checkpoint {kept} is kept" if kept else "there is no checkpoint yet"
        raise TrainingFailed(
            f"{why}; {left}; look at the size of the rewards, or lower learner.critic_lr"
        )

    def _say(self, text: str) -> None:
        log.warning("%s", text)
        self._metrics.write("event", text=text, env_steps=self._trainer.env_steps)


def refusals(trainer: Trainer) -> int:
    """Return how many publications the guard has refused in a row."""
    decision = trainer.publication.decision
    return 0 if decision is None else decision.refusals
