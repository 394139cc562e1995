"""Which episodes are kept out of training, so that the critics can be judged on what is new."""

from __future__ import annotations

import hashlib


def is_held_out(share: float, seed: int, actor: int, episode: int) -> bool:
    """Return whether an episode is held out: always the same answer for the same episode.

    A hash decides rather than a draw, so that a resumed run holds out the same episodes in whatever
    order their rows come back.

    Args:
        share: Expected share of the episodes, in [0, 1).
        seed: The run's.
        actor: Number of the actor.
        episode: Number of the episode within that actor's run.
    """
    text = f"{seed} {actor} {episode}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return number < share * 2**64
