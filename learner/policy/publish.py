"""What was last published, and whether the newest weights may take its place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handrail.errors import Error
from learner.algo.action import ActionComposer
from learner.data.replay import Replay
from learner.nets.pytree_io import flatten, unflatten
from learner.policy.publish_guard import (
    PROBE,
    GuardDecision,
    GuardState,
    ProbeStates,
    check_candidate,
)
from learner.policy.weights import PolicyWeights, pack

RECENT = 1000  # [rows], newest, of which half the probe is drawn

Packet = tuple[dict[str, Any], dict[str, np.ndarray]]


class Publication:
    """Keeps the last good weights and asks the gate about new ones."""

    def __init__(self, composer: ActionComposer) -> None:
        self._composer = composer
        self._guard_state = GuardState()
        self._meta: dict[str, Any] = {}
        self.refused = 0  # candidates
        self.decision: GuardDecision | None = None  # of the newest candidate

    @property
    def refusing(self) -> bool:
        """Whether the newest candidate was refused."""
        return self._guard_state.refusals > 0

    def try_accept(
        self,
        weights: PolicyWeights,
        updates: int,
        replay: Replay,
        rng: np.random.Generator,
        td_error: float | None,
    ) -> bool:
        """Return whether weights may be published; if so they are the last good ones from now on.

        Args:
            weights: To judge; they are copied.
            updates: That made them.
            replay: For the probe states, and the largest return.
            rng: Source of chance.
            td_error: Mean held-out TD error [reward]; None where it doesn't count yet.

        Raises:
            Error: The weights aren't finite and none ever were.
        """
        candidate = jax.tree.map(np.array, weights)
        probe = draw_probe(replay, rng)
        self._guard_state, self.decision = check_candidate(
            self._composer,
            probe,
            self._guard_state,
            candidate,
            updates,
            td_error,
            replay.largest_return,
        )
        if self._guard_state.good is None:
            raise Error("the first weights are not finite; lower learner.critic_lr")
        self.refused += not self.decision.accepted
        return self.decision.accepted

    def set_meta(self, meta: dict[str, Any]) -> None:
        """Give the last good weights their meta data."""
        self._meta = meta

    def packet(self) -> Packet:
        """Return meta data and arrays of the last good weights, as copies."""
        assert self._guard_state.good is not None
        return self._meta, pack(self._guard_state.good)

    def state_dict(self) -> Packet:
        """Return what a checkpoint keeps: "good" and "refused" in meta, arrays as "good/..."."""
        arrays = {}
        if self._guard_state.good is not None:
            arrays = flatten(self._guard_state.good._replace(base=None), "good")
        meta = {"good": self._meta, "refused": self.refused, "refusing": self.refusing}
        return meta, arrays

    def load_state_dict(
        self, meta: dict[str, Any], arrays: dict[str, np.ndarray], like: PolicyWeights
    ) -> None:
        """Go on from a checkpoint; a streak of refusals begins anew.

        Args:
            meta: With what `state_dict` returned.
            arrays: The same.
            like: Shapes of the weights; its base is the checkpoint's.

        Raises:
            CheckpointError: An array is missing or has another shape.
        """
        self.refused = meta["refused"]
        if meta["good"]:
            good = unflatten(like._replace(base=None), arrays, "good")
            good = good._replace(base=like.base)
            self._meta = meta["good"]
            self._guard_state = GuardState(good, good, updates=self._meta["updates"])


def draw_probe(replay: Replay, rng: np.random.Generator) -> ProbeStates:
    """Return states of demonstrations and, as far as there are, of the newest steps: half each.

    Args:
        replay: May be empty.
        rng: Source of chance.
    """
    slots = np.zeros(PROBE, np.int64)
    recent = replay.recent(RECENT)
    if len(replay.views.prior_data):
        slots = replay.views.prior_data.draw(rng, (PROBE,))
    if len(recent):
        newest = PROBE // 2 if len(replay.views.prior_data) else PROBE
        slots[:newest] = rng.choice(recent, newest)
    return ProbeStates(replay.states(slots), jax.tree.map(jnp.asarray, replay.context(slots)))
