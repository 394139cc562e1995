"""Keep a trainer in checkpoints, and bring it back to where store and checkpoint left it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from handrail.config import to_dict
from handrail.episode_label import EpisodeLabel
from handrail.errors import CheckpointError
from learner.service.progress import RunProgress
from learner.store.checkpoint import Checkpoints
from learner.store.reader import StoredRecord
from learner.store.store import Store
from learner.trainer import Trainer

log = logging.getLogger("learner")


def restore(
    trainer: Trainer, run_progress: RunProgress, store: Store, checkpoints: Checkpoints
) -> None:
    """Feed a new trainer the stored rows and, at the right row, the checkpoint's state.

    The rows before the checkpoint rebuild the replay; those after it are new to the trainer, as if
    they had just arrived.

    Args:
        trainer: Fresh, of the run's config.
        run_progress: Follows the trainer's log; numbers the actors.
        store: The run's rows.
        checkpoints: The run's checkpoints; there may be none.

    Raises:
        CheckpointError: It is damaged, of another config, or all are ahead of the store.
        StorageError: A stored row is damaged.
    """
    state = newest_within(checkpoints, store.cursor)
    for stored in store.records(after=0):
        if state is not None and stored.cursor > state["meta"]["cursor"]:
            trainer.rows = state["meta"]["cursor"]
            trainer.load_state_dict(state)
            state = None
        trainer.rows = stored.cursor - 1  # pruned rows have left numbers that are not used again
        ingest(trainer, run_progress, stored)
    trainer.rows = store.cursor
    if state is not None:
        trainer.rows = state["meta"]["cursor"]
        trainer.load_state_dict(state)
        trainer.rows = store.cursor


def newest_within(checkpoints: Checkpoints, cursor: int) -> dict[str, Any] | None:
    """Return the newest checkpoint whose rows are all in a store of this length.

    Newer ones are passed over with a warning: the store is an older copy, and the actors will fill
    it again.

    Args:
        checkpoints: Of the run.
        cursor: Place of the store's newest row.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        CheckpointError: There are checkpoints, and all are ahead; or the newest within is damaged.
    """
    names = checkpoints.names()
    ahead = 0
    for name in reversed(names):
        state = checkpoints.load(name)
        ahead = state["meta"]["cursor"]
        if ahead <= cursor:
            return state
        log.warning(
            "checkpoint %s was written after %d rows, the store holds %d: it is an older copy, and "
            "training goes on from an older checkpoint",
            name,
            ahead,
            cursor,
        )
    if not names:
        return None
    raise CheckpointError(
        f"every checkpoint in {checkpoints.folder} was written after {ahead} rows or more, but the "
        f"store holds {cursor}: it is not this run's store, or an older copy of it; put the newer "
        "store back, or move the checkpoints away to train anew on what the store has"
    )


def ingest(trainer: Trainer, run_progress: RunProgress, stored: StoredRecord) -> None:
    """Give a row or label of the stream to the trainer, whose log progress follows."""
    row = stored.row
    if isinstance(row, EpisodeLabel):
        trainer.label(row, run_progress.number(row.actor))
    else:
        trainer.add(row, run_progress.number(stored.actor))


def checkpoint(trainer: Trainer, checkpoints: Checkpoints) -> bool:
    """Write everything that a resumed run and `load_policy` need.

    Returns:
        False where weights aren't finite: nothing is written, so that older checkpoints, from which
        a run can go on, aren't pushed out by ones from which none can.

    Raises:
        StorageError: The disk refused; older checkpoints are unharmed.
    """
    state = trainer.state_dict()
    if not all(np.isfinite(array).all() for array in state["arrays"].values()):
        return False
    described: dict[str, Any] = {
        "spec": to_dict(trainer.spec),
        "learner": to_dict(trainer.config),
        "base": to_dict(trainer.base_config),
    }
    checkpoints.save({"meta": {**state["meta"], "config": described}, "arrays": state["arrays"]})
    return True
