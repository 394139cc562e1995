"""Whether a learner's store holds what an actor's journal says, exactly once."""

from __future__ import annotations

import collections
from pathlib import Path

from handrail.spec import load_spec
from learner.store.store import Store


def audit_rows(actor: Path, learner: Path) -> int:
    """Check that each row that the spool took durably is stored once, and nothing else is.

    Args:
        actor: Run folder with the journal.
        learner: Run folder with the store; may be the same.

    Returns:
        How many rows are stored.
    """
    journal = collections.defaultdict(collections.Counter)
    for line in (actor / "journal.txt").read_text().splitlines():
        state, digest = line.split()
        journal[state][digest] += 1
    with Store(learner / "store.db", load_spec(learner / "spec.json"), readonly=True) as store:
        stored = collections.Counter(digest for _, _, digest in store.digests())
    assert stored
    assert max(stored.values()) == 1, "a row is in the store twice"
    lost = set(journal["durable"]) - set(stored)
    assert not lost, f"{len(lost)} rows were lost"
    foreign = set(stored) - set(journal["intended"])
    assert not foreign, f"{len(foreign)} rows were never written"
    return len(stored)
