"""What a session needs of its learner, wherever that is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

from handrail.errors import ProtocolMismatch
from handrail.transition import Transition
from learner.policy.policy import Policy


@dataclass(frozen=True)
class Progress:
    """What the learner durably holds of this run."""

    demos: int  # successful demonstrations
    env_steps: int  # training steps
    episodes: int  # one more than the highest episode number
    human_steps: int  # training steps that a person drove
    takeovers: int  # times that a person took the arm


def parse_progress(counts: dict[str, Any]) -> Progress:
    """Return the progress that a learner's counts tell.

    Raises:
        ProtocolMismatch: A count is missing or isn't a whole number.
    """
    values = {item.name: counts.get(item.name) for item in fields(Progress)}
    if any(type(value) is not int for value in values.values()):
        raise ProtocolMismatch(f"a status has whole numbers {', '.join(values)}, got {counts}")
    return Progress(**values)  # type: ignore[arg-type]


class LearnerClient(Protocol):
    """The way to the learner and back."""

    def send(self, row: Transition) -> None:
        """Hand over a row; it is durable before it is forgotten."""
        ...

    def progress(self) -> Progress:
        """Return what the learner holds once everything sent has arrived.

        Raises:
            LinkTimeout: The learner doesn't answer.
        """
        ...

    def refresh(self, policy: Policy) -> None:
        """Apply the newest weights, if there are newer ones."""
        ...

    def may_step(self, env_steps: int) -> bool:
        """Return whether the learner is close enough behind for another training step."""
        ...

    def wait_for_updates(self, policy: Policy, env_steps: int) -> None:
        """Wait for every update that these steps are owed, and apply the weights.

        Raises:
            Stopped: Somebody asked the run to stop meanwhile.
        """
        ...

    def keep(self) -> None:
        """Have the learner write down what it has learned.

        Raises:
            TrainingFailed: Nothing that could be kept has come of it.
        """
        ...

    def status(self) -> dict[str, Any]:
        """Return the link's part of a row of metrics."""
        ...
