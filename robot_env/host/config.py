"""How the host process runs: the config table `[host]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from handrail.config import check

RobotName = Literal["mujoco", "mock", "franka"]  # mock: a Franka's interface, simulated


@dataclass(frozen=True)
class HostConfig:
    """How the host process runs: table `[host]`."""

    robot: RobotName = "mujoco"
    human: bool = False  # a person may take the arm over; an enabled [operator] is one
    realtime: bool = False  # own 1 kHz clock instead of waiting for the actor
    request_deadline: float = 60.0  # [s], lockstep: wait for the next request of an episode
    priority: int = 80  # [-], SCHED_FIFO priority in real time, 0 leaves the class alone
    core: int = -1  # [-], core to run on in real time, -1 leaves the choice to the system
    overrun: int = 20  # [ticks] missed at once in real time: soft stop, as a robot does; 0: never
    recorder: float = 60.0  # [s] that the flight recorder remembers, 0 for none
    recorder_lockstep: bool = False  # record in lockstep too: 2 kB and 0.25 µs a tick
    recordings: int = 10  # [files], newest flight recordings that are kept

    def __post_init__(self) -> None:
        check(
            self.request_deadline > 0, "request_deadline", self.request_deadline, "positive seconds"
        )
        check(0 <= self.priority <= 98, "priority", self.priority, "in 0..98")
        check(self.core >= -1, "core", self.core, "a core's number, or -1")
        check(self.overrun >= 0, "overrun", self.overrun, "0 or more")
        check(0.0 <= self.recorder <= 600.0, "recorder", self.recorder, "in 0..600 s")
        check(self.recordings >= 1, "recordings", self.recordings, "one or more")
