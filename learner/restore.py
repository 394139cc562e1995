"""Keep a trainer in checkpoints, and bring it back to where store and checkpoint left it."""

from __future__ import annotations

from typing import Any

import numpy as np

from handrail.config import to_dict
from handrail.errors import CheckpointError
from learner.checkpoint import Checkpoints
from learner.ledger import Ledger
from learner.store import Store
from learner.trainer import Trainer


def restore(trainer: Trainer, ledger: Ledger, store: Store, checkpoints: Checkpoints) -> None:
    """Feed a new trainer the stored rows and, at the right row, the checkpoint's state.

    The rows before the checkpoint rebuild the replay; those after it are new to the trainer, as if
    they had just arrived.

    Args:
        trainer: Fresh, of the run's config.
        ledger: Empty; counts the rows.
        store: The run's rows.
        checkpoints: The run's checkpoints; there may be none.

    Raises:
        CheckpointError: The checkpoint is damaged, of another config, or ahead of the store.
        StorageError: A stored row is damaged.
    """
    state = checkpoints.load() if checkpoints.names() else None
    for arrival in store.arrivals(after=0):
        trainer.add(arrival.row, ledger.number(arrival.actor))
        ledger.add(arrival.row, arrival.actor)
        if state is not None and trainer.rows == state["meta"]["cursor"]:
            trainer.load_state_dict(state)
            state = None
    if state is not None:
        raise CheckpointError(
            f"the newest checkpoint in {checkpoints.folder} was written after "
            f"{state['meta']['cursor']} rows, but the store holds {trainer.rows}: it is not this "
            f"run's store, or an older copy of it"
        )


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
