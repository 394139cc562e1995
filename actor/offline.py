"""A session in this process, over a run folder's store and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actor.config import Config
from actor.inline import InlineLink
from actor.session import Session, Stopped
from actor.worlds import open_env, task_of
from handrail.metrics import Metrics
from handrail.process import stop_on_signals
from handrail.runs import Run
from learner.acting import Policy
from learner.checkpoint import Checkpoints
from learner.ledger import Ledger
from learner.restore import checkpoint, restore
from learner.store import Store
from learner.trainer import Trainer
from robot_env.tasks import Task
from robot_env.teleop.scripted import ScriptedOperator


@contextmanager
def offline_session(
    run: Run, config: Config, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Session, Trainer]]:
    """Yield a session and its trainer, restored; store and checkpoint what came of it at the end.

    Raises:
        CheckpointError: The newest checkpoint is damaged or of another config.
        StorageError: The store is damaged or of another task.
    """
    task = task_of(config)
    trainer = Trainer(config.learner, config.base, task.spec, config.run.seed)
    store = Store(run.store, task.spec, short=config.link.short)
    checkpoints = Checkpoints(run.checkpoints)
    ledger = Ledger()
    restore(trainer, ledger, store, checkpoints)
    metrics = Metrics(run, "inline")
    link = InlineLink(trainer, ledger, metrics, config.run.demos, config.run.publish_steps, store)
    env = open_env(config, task, critic_of=run.folder)
    person = None
    if config.operator.enabled and isinstance(task, Task):
        person = ScriptedOperator(task, config.operator, config.run.seed)
    try:
        yield (
            Session(
                config,
                task,
                env,
                Policy(task.spec, config.learner, config.base, config.run.seed),
                link,
                metrics,
                person,
                stop,
                lambda: None,
            ),
            trainer,
        )
    finally:
        link.flush()
        if trainer.fitted:
            checkpoint(trainer, checkpoints)
        store.close()
        env.close()
        metrics.close()


def run_inline(run: Run, config: Config) -> bool:
    """Carry out a whole run in this process; return False where a signal stopped it before."""
    with (
        stop_on_signals() as stop,
        offline_session(run, config, stop.is_set) as (session, _),
    ):
        try:
            session.run()
        except Stopped:
            return False
    return True
