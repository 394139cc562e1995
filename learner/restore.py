"""Bring a trainer back to where its store and its newest checkpoint left it."""

from __future__ import annotations

from learner.checkpoint import Checkpoints
from learner.store import Store
from learner.trainer import Trainer


def restore(trainer: Trainer, store: Store, checkpoints: Checkpoints) -> int:
    """Feed a new trainer the stored rows and, at the right row, the checkpoint's state.

    The rows before the checkpoint rebuild the replay; those after it are new to the trainer, as if
    they had just arrived.

    Args:
        trainer: Fresh, of the run's config.
        store: The run's rows.
        checkpoints: The run's checkpoints; there may be none.

    Returns:
        Cursor of the last row that the trainer has seen, 0 for none.

    Raises:
        CheckpointError: The checkpoint is damaged, of another config, or ahead of the store.
        StorageError: A stored row is damaged.
    """
    found = checkpoints.latest()
    cursor = 0
    for cursor, row in store.rows(after=0):
        trainer.add(row)
        if found is not None and cursor == int(found.meta["cursor"]):
            trainer.load_state_dict(found.arrays, found.meta)
            found = None
    if found is not None:
        trainer.refuse_orphan(found.meta, cursor)
    return cursor
