"""A session in this process, over a run folder's store and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actor.config import Config
from actor.link.inline import InlineLearnerClient
from actor.loop.make_env import make_env, make_task
from actor.loop.session import Session
from handrail.metrics import Metrics
from handrail.processes.exit_record import saving
from handrail.processes.stop import Stopped, stop_on_signals
from handrail.run_folder import Run
from learner.policy.policy import Policy
from learner.service.health import Health
from learner.service.progress import RunProgress
from learner.service.restore import checkpoint, restore
from learner.store.checkpoint import Checkpoints
from learner.store.store import Store
from learner.trainer import Trainer
from robot_env.tasks.base import Task
from robot_env.teleop.scripted import ScriptedOperator


@contextmanager
def inline_session(
    run: Run, config: Config, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Session, Trainer]]:
    """Yield a session and its trainer, restored; store and checkpoint what came of it at the end.

    Raises:
        CheckpointError: The newest checkpoint is damaged or of another config.
        StorageError: The store is damaged or of another task.
    """
    task = make_task(config)
    trainer = Trainer(config.learner, config.base, task.spec, config.run.seed)
    store = Store(run.store, task.spec, short=config.link.short)
    checkpoints = Checkpoints(run.checkpoints)
    run_progress = RunProgress(trainer.log)
    restore(trainer, run_progress, store, checkpoints)
    metrics = Metrics(run, "inline")
    health = Health(trainer, checkpoints, metrics)
    link = InlineLearnerClient(
        trainer,
        run_progress,
        metrics,
        config.run.demos,
        config.run.publish_steps,
        store,
        health,
        stop,
    )
    env = make_env(config, task, run.folder, lambda text: metrics.write("event", text=text))
    intervener = None
    if config.operator.enabled and isinstance(task, Task):
        intervener = ScriptedOperator(task, config.operator, config.run.seed)
    try:
        yield (
            Session(
                config,
                task,
                env,
                Policy(task.spec, config.learner, config.base, config.run.seed),
                link,
                metrics,
                intervener,
                stop,
                lambda: None,
            ),
            trainer,
        )
    finally:
        with saving():
            link.flush()
            if trainer.fitted:
                checkpoint(trainer, checkpoints)
            store.close()
        env.close()
        metrics.close()


def run_inline(run: Run, config: Config, tick: Callable[[], None] = lambda: None) -> bool:
    """Carry out a whole run in this process; return False where a signal stopped it before.

    Args:
        run: Its folder.
        config: Its config.
        tick: Called between steps, to show what goes on.
    """

    def stopped() -> bool:
        tick()
        return stop.is_set()

    with (
        stop_on_signals(ends=True) as stop,
        inline_session(run, config, stopped) as (session, _),
    ):
        try:
            session.run()
        except Stopped:
            return False
    return True
