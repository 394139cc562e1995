"""A person's labels on their way into the store, whether the learner lives or not.

They wait in a spool of their own beside the store. The command delivers them at once: over the
stream to a learner that lives, into the store itself where none does. What is not delivered, the
learner takes when it starts.
"""

from __future__ import annotations

import contextlib

from handrail.episode_label import EpisodeLabel
from handrail.errors import LinkTimeout, StorageError
from handrail.link.label_codec import decode_label, encode_label
from handrail.link.sender import StreamSender
from handrail.link.wire import Hello
from handrail.run_folder import Run
from handrail.spec import EnvSpec
from handrail.storage.spool import Spool
from handrail.transition import Source
from learner.store.admin.episodes import StoredEpisode
from learner.store.reader import StoredRecord
from learner.store.store import Incoming, Store

AUTHOR = "operator"  # under whose name a person's labels are stored


def deliver_label(run: Run, spec: EnvSpec, label: EpisodeLabel, timeout_s: float = 10.0) -> str:
    """Make a label durable and deliver it; return where it is now.

    Args:
        run: Whose store is meant.
        spec: Of the run.
        label: What is said.
        timeout_s: How long to wait for a learner that lives [s].

    Returns:
        "stored", or "waiting": it is durable and the learner takes it when it starts.

    Raises:
        StorageError: It can't be made durable, or another such command is at work.
        ProtocolMismatch: The learner refuses it.
    """
    with Spool(run.labels, actor=AUTHOR, task_hash=spec.hash, retain_bytes=1 << 20) as spool:
        spool.append(encode_label(label))
        spool.flush(timeout_s)
        with contextlib.suppress(StorageError), Store(run.store, spec) as store:
            drain_spool(spool, store)
            return "stored"
        hello = Hello.of(AUTHOR, spool.session, spec)
        with StreamSender(run.endpoint("stream"), spool, hello) as sender:
            try:
                sender.drain(timeout_s)
            except LinkTimeout:
                return "waiting"
    return "stored"


def store_waiting_labels(run: Run, spec: EnvSpec, store: Store) -> list[StoredRecord]:
    """Take the labels that wait beside a store into it; return those that are new.

    Raises:
        StorageError: They can't be read or stored. Where a command is just giving one, none is
            taken: it delivers them itself.
    """
    if not run.labels.exists():
        return []
    try:
        spool = Spool(run.labels, actor=AUTHOR, task_hash=spec.hash, retain_bytes=1 << 20)
    except StorageError as error:
        if "in use" in str(error):
            return []
        raise
    with spool:
        return drain_spool(spool, store)


def drain_spool(spool: Spool, store: Store) -> list[StoredRecord]:
    """Move what a spool of labels holds into a store; return what is new there."""
    for session in spool.first_retained():
        high = store.open_sessions([session], spool.actor)[session]
        spool.resend_from(session, high)
        spool.acknowledge(session, high)
    taken: list[StoredRecord] = []
    while rows := spool.read(spool.acknowledged_id(), 1000, 1 << 20):
        found = [Incoming(row.session, row.seq, row.blob, decode_label(row.blob)) for row in rows]
        taken += store.put(found)
        spool.acknowledge(rows[-1].session, rows[-1].seq)
    return taken


def actor_of(found: list[StoredEpisode], number: int, actor: str = "") -> str:
    """Return the actor whose episode has a number.

    Raises:
        StorageError: None has it, or several do and it isn't said whose is meant.
    """
    names = {e.actor for e in found if e.number == number and e.source != Source.EVAL}
    if actor:
        names &= {actor}
    if len(names) == 1:
        return names.pop()
    if names:
        raise StorageError(
            f"episode {number} is there of {', '.join(sorted(names))}: say which by --actor"
        )
    known = sorted({e.number for e in found if e.source != Source.EVAL})
    held = f"{known[0]} to {known[-1]}" if known else "none"
    raise StorageError(
        f"the store has no episode {number}{' of ' + actor if actor else ''}; {held}"
    )
