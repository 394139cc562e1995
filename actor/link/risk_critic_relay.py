"""Pass the risk critic on: from the learner's broadcast to the robot host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from handrail.errors import CheckpointError, DeviceLost
from handrail.risk_critic.format import check_critic, version_of

log = logging.getLogger("actor")


class RiskCriticRelay:
    """Hands each critic on once, and says what became of it."""

    def __init__(self, load: Callable[[np.ndarray], int]) -> None:
        """Set up.

        Args:
            load: `load_critic` of a host.
        """
        self._load = load
        self._newest: np.ndarray | None = None  # that passed the check
        self._waits = False  # for a host that can take it
        self._version = 0  # held by the host
        self._refused = 0

    def forward(self, message: tuple[dict[str, Any], dict[str, np.ndarray]] | None) -> None:
        """Hand a message's critic to the host; a bad one is counted and reported, not raised.

        Where the host is gone it is handed on by a later call: who steps the host notices that.

        Args:
            message: Meta data and arrays of the broadcast, or None where there is nothing new.
        """
        try:
            if message is not None:
                array = message[1].get("critic", np.zeros(0, np.float32))
                check_critic(array)
                self._newest, self._waits = array, True
            if self._newest is not None and self._waits:
                self._version = self._load(self._newest)
                self._waits = False
                came = version_of(self._newest)
                log.info("risk critic: version %d came, %d is held", came, self._version)
        except CheckpointError as error:
            self._refused += 1
            self._waits = False
            log.warning("risk critic refused, version %d stays: %s", self._version, error)
        except DeviceLost:
            self._version = 0

    def resend(self) -> None:
        """Hand the newest critic on again: the host is another one than before."""
        self._waits = self._newest is not None

    def status(self) -> dict[str, Any]:
        """Return the critic's part of a row of metrics."""
        return {"risk_version": self._version, "risk_refused": self._refused}
