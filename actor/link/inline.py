"""The three roles in one process on one core: lockstep, bit-reproducible for a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actor.link.client import Progress, parse_progress
from handrail.episode_label import EpisodeLabel, Outcome
from handrail.metrics import Metrics
from handrail.processes.stop import Stopped
from handrail.transition import Transition
from learner.policy.policy import Policy
from learner.service.health import Health
from learner.service.progress import RunProgress
from learner.service.server import metrics_row
from learner.store.store import Store
from learner.trainer import Trainer

ACTOR = "inline"
STORE_ROWS = 500  # rows kept back at most
METRICS_STEPS = 250  # [steps], between rows about the learner


class InlineLearnerClient:
    """A link to a trainer in the same process: every update due is made before the next step."""

    def __init__(
        self,
        trainer: Trainer,
        run_progress: RunProgress,
        metrics: Metrics,
        demos: int,
        publish_steps: int,
        store: Store | None = None,
        health: Health | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._trainer = trainer
        self._run_progress = run_progress
        self._metrics = metrics
        self._demos = demos
        self._publish_steps = publish_steps
        self._store = store
        self._health = health
        self._stop = stop
        self._unstored: list[Transition] = []
        self._published = -1
        self._reported = 0

    def send(self, row: Transition) -> None:
        """Give the row to the trainer, and to the store once an episode."""
        row.validate(self._trainer.spec)
        self._trainer.add(row)
        if self._store is not None:
            self._unstored.append(row)
            if row.end or len(self._unstored) >= STORE_ROWS:
                self.flush()

    def label(self, episode: int, outcome: Outcome, success_reward: float = 1.0) -> None:
        """Say of an episode after the fact what it came to; as `RemoteLearnerClient.label`."""
        label = EpisodeLabel(ACTOR, episode, outcome, success_reward)
        self.flush()
        self._trainer.label(label, self._run_progress.number(ACTOR))
        if self._store is not None:
            self._store.put_label(ACTOR, label)

    def flush(self) -> None:
        """Store what is not stored yet."""
        if self._store is not None and self._unstored:
            self._store.put_rows(ACTOR, self._unstored)
            self._unstored = []

    def progress(self) -> Progress:
        """Return what the trainer holds."""
        return parse_progress(self._run_progress.counts())

    def refresh(self, policy: Policy) -> None:
        """Train as far as is due, then apply the weights if they are a publication apart."""
        trainer = self._trainer
        if not trainer.fitted:
            if self._run_progress.demos < self._demos:
                return
            trainer.fit_base(self._report_base)
            self._keep(now=True)
        if trainer.due():
            trainer.advance(trainer.due(), report=False)
        if self._published < 0 or trainer.env_steps - self._published >= self._publish_steps:
            self._publish(policy)
        if trainer.env_steps - self._reported >= METRICS_STEPS:
            self._reported = trainer.env_steps
            self._metrics.write("learner", **metrics_row(trainer))
        self._keep()

    def may_step(self, env_steps: int) -> bool:
        """Return True: nothing is ever owed."""
        return True

    def status(self) -> dict[str, Any]:
        """Return nothing: there is no spool."""
        return {}

    def wait_for_updates(self, policy: Policy, env_steps: int) -> None:
        """Make every update due and apply the weights."""
        self._trainer.advance(self._trainer.due(), report=False)
        self._publish(policy)
        self._metrics.write("learner", **metrics_row(self._trainer))

    def keep(self) -> None:
        """Write a checkpoint."""
        self._keep(now=True)

    def _report_base(self, row: dict[str, float]) -> None:
        if self._stop():
            raise Stopped
        self._metrics.write("base", **row)

    def _publish(self, policy: Policy) -> None:
        before = self._trainer.publication.decision
        policy.load(*self._trainer.packet())
        self._published = self._trainer.env_steps
        if self._health is not None:
            self._health.check_publication(before)

    def _keep(self, now: bool = False) -> None:
        """Write a checkpoint if it is time to, and before it the rows that it has seen."""
        if self._health is None or not (now or self._health.due()):
            return
        self.flush()
        if now:
            self._health.checkpoint()
        else:
            self._health.checkpoint_if_due()
