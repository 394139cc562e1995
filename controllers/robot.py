"""What is asked of a controlled robot and what it says back.

A `Request` goes down once per policy period; a `Snapshot` comes up at its end. Both have a fixed
float64 layout, so that they go through shared memory without a codec.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from enum import IntEnum
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from handrail.errors import ProtocolMismatch


class Authority(IntEnum):
    """Who asks; the host decides what a client may name itself, by what it was granted."""

    POLICY = 0
    HUMAN = 1
    SCRIPT = 2  # resets and other guarded motions of the host's own


class Mode(IntEnum):
    """What the chain is doing."""

    IDLE = 0  # no torque
    HOLDING = 1  # at rest around the last target: no fresh request
    FOLLOWING = 2  # the policy or a script has authority
    HUMAN = 3  # a person has authority
    SOFT_STOP = 4  # stiffness ramped down, damped; left only by `rearm`
    FAULT = 5  # the state can't be trusted; torque ramped to zero; left only by a reset
    # the robot has the arm: no torque is sent; left only by `recover`, once the person let go
    USER_STOP = 6  # its stop button was pressed
    GUIDING = 7  # a person moves it by its handles


class Fault(IntEnum):
    """Why the chain left normal operation; 0 in normal operation."""

    NONE = 0
    STATE_NOT_FINITE = 1  # NaN or inf in the measured state
    STATE_JUMP = 2  # joints moved faster than is physically possible
    TARGET_STALE = 3  # no fresh target for longer than the soft-stop time
    HEARTBEAT_LOST = 4  # the actor's heartbeat stopped for longer than the soft-stop time
    JOINT_LIMIT = 5  # a joint is beyond its range
    FORCE_LIMIT = 6  # the tool met more force than the config allows
    ENERGY_AUDIT = 7  # more energy left the controller than its window allows
    COMMANDED = 8  # somebody asked for a stop
    REFLEXES = 9  # the risk critic's reflex acted too often in a short time
    OVERRUN = 10  # the host missed so many ticks in a row that a robot would have stopped itself
    # from 20 on: the robot itself stopped; left only by `recover`, which a person asks for
    ROBOT_REFLEX = 20  # it met a collision or one of its own limits
    ROBOT_COMMUNICATION = 21  # it missed twenty commands in a row
    USER_STOP = 22  # its stop button is pressed
    GUIDING = 23  # a person moves it by its handles
    ROBOT_LOST = 24  # the connection is gone


_HELD = {Fault.NONE: Mode.IDLE, Fault.USER_STOP: Mode.USER_STOP, Fault.GUIDING: Mode.GUIDING}


def mode_without_control(fault: Fault) -> Mode:
    """Return the mode of an arm that its robot holds by itself.

    Args:
        fault: Why, or none.
    """
    return _HELD.get(fault, Mode.FAULT)


class Request(NamedTuple):
    """What the actor asks of the host for the next policy period."""

    seq: int  # increases by one per request
    authority: int  # Source
    position: np.ndarray  # (3,) float64, target of the tool centre, base frame [m]
    quaternion: np.ndarray  # (4,) float64, xyzw, target orientation of the tool, base frame
    gripper: float  # target width between the fingers [m], 0 is closed
    stiffness: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # x, y, z [N/m], rotational [N m/rad]
    damping_ratio: float = 0.0  # [-]; here and in `stiffness` 0 asks for the config's

    def pack(self) -> np.ndarray:
        """Return the request as a flat (REQUEST_SIZE,) float64 array."""
        return np.array(
            [
                *(self.seq, self.authority, *self.position, *self.quaternion, self.gripper),
                *(*self.stiffness, self.damping_ratio),
            ],
            np.float64,
        )

    @staticmethod
    def unpack(array: np.ndarray) -> Request:
        """Return the request of a flat array; values are copied and not judged.

        Raises:
            ProtocolMismatch: The array has another size.
        """
        if array.shape != (REQUEST_SIZE,):
            raise ProtocolMismatch(f"a request has {REQUEST_SIZE} values, got {array.shape}")
        return Request(
            int(array[0]),
            int(array[1]),
            array[2:5].copy(),
            array[5:9].copy(),
            float(array[9]),
            tuple(map(float, array[10:14])),
            float(array[14]),
        )


REQUEST_SIZE = 15


_zeros3, _zeros4, _zeros6 = partial(np.zeros, 3), partial(np.zeros, 4), partial(np.zeros, 6)
_zeros7, _zeros16 = partial(np.zeros, 7), partial(np.zeros, 16)


@dataclass(slots=True)
class Snapshot:
    """What the host says at the end of a policy period; sums and peaks are over that period.

    Pose and twist come from the measured joints. `target_*` is where the virtual spring's other end
    really is, after interpolation, limits and gate. `privileged_state` has the success flag
    first and is zero on a real robot.
    """

    time: float = 0.0  # [s], robot time since reset (simulated in lockstep)
    tick: int = 0  # control ticks since reset
    episode: int = 0  # resets since the host started
    mode: int = 0  # Mode
    fault: int = 0  # Fault
    request_seq: int = -1  # seq of the newest request that was accepted, -1 for none
    q: np.ndarray = field(default_factory=_zeros7)  # measured joint positions [rad]
    dq: np.ndarray = field(default_factory=_zeros7)  # measured joint velocities [rad/s]
    position: np.ndarray = field(default_factory=_zeros3)  # tool centre, base frame [m]
    quaternion: np.ndarray = field(default_factory=_zeros4)  # xyzw
    twist: np.ndarray = field(default_factory=_zeros6)  # of the tool [m/s, rad/s]
    target_position: np.ndarray = field(default_factory=_zeros3)  # the spring's other end [m]
    target_quaternion: np.ndarray = field(default_factory=_zeros4)  # xyzw
    wrench: np.ndarray = field(default_factory=_zeros6)  # ON the tool, base frame [N, N m]
    gripper_width: float = 0.0  # measured [m]
    gripper_target: float = 0.0  # [m]
    stiffness: np.ndarray = field(default_factory=_zeros4)  # in effect [N/m x 3, N m/rad]
    tank: float = 0.0  # energy left to spend [J]
    tank_low: float = 0.0  # least of it [J]
    spring: float = 0.0  # energy of the virtual springs [J]
    gated_ticks: int = 0  # ticks in which the tank or a torque limit held the target back
    torque_limited_ticks: int = 0  # ticks in which the torque limits acted
    target_limited_ticks: int = 0  # ticks in which a limit of place or speed changed the target
    gate_mean: float = 1.0  # share of the steps that the gate granted [-]
    gate_low: float = 1.0  # least share [-]
    energy_injected: float = 0.0  # positive jumps of the spring's energy that were paid for [J]
    energy_refused: float = 0.0  # what the gate did not grant [J]
    energy_out: float = 0.0  # work of the torques on the arm [J]
    risk_peak: float = 0.0  # largest risk that the critic saw [-]
    reflex_ticks: int = 0  # ticks in which the reflex held the stiffness down
    force_peak: float = 0.0  # largest |F| measured [N]
    force_rms: float = 0.0  # [N]
    speed_peak: float = 0.0  # largest speed of the tool centre [m/s]
    tick_us: float = 0.0  # mean wall time of one tick (read, chain, physics) [µs]
    late_ticks: int = 0  # ticks that began after their deadline; real time only
    dropped_requests: int = 0  # requests refused since reset: not finite, out of order
    privileged_state: np.ndarray = field(default_factory=_zeros16)  # simulation only, from the task

    def pack(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return the snapshot as a flat (SNAPSHOT_SIZE,) float64 array.

        Args:
            out: Array to write into instead of a new one.
        """
        out = np.empty(SNAPSHOT_SIZE) if out is None else out
        for name, (start, stop) in SNAPSHOT_SLICES.items():
            out[start:stop] = getattr(self, name)
        return out

    @staticmethod
    def unpack(array: np.ndarray) -> Snapshot:
        """Return the snapshot of a flat array; values are copied.

        Raises:
            ProtocolMismatch: The array has another size.
        """
        if array.shape != (SNAPSHOT_SIZE,):
            raise ProtocolMismatch(f"a snapshot has {SNAPSHOT_SIZE} values, got {array.shape}")
        values = {}
        for name, (start, stop) in SNAPSHOT_SLICES.items():
            if name in _VECTORS:
                values[name] = array[start:stop].copy()
            else:
                values[name] = int(array[start]) if name in _INTEGERS else float(array[start])
        return Snapshot(**values)


def _layout() -> dict[str, tuple[int, int]]:
    slices, start = {}, 0
    for item in fields(Snapshot):
        size = 1 if item.default_factory is MISSING else item.default_factory().size
        slices[item.name] = (start, start + size)
        start += size
    return slices


SNAPSHOT_SLICES = _layout()  # name -> [start, stop) in the flat array
SNAPSHOT_SIZE = max(stop for _, stop in SNAPSHOT_SLICES.values())
_VECTORS = frozenset(item.name for item in fields(Snapshot) if item.default is MISSING)
_INTEGERS = frozenset(item.name for item in fields(Snapshot) if item.type == "int")


class Robot(Protocol):
    """A controlled arm: the chain and the plant (or the wire to it) behind one door."""

    def run(self, request: Request | None, ticks: int, begin: bool = True) -> Snapshot:
        """Control for some ticks and return what happened.

        Args:
            request: New target, or None if none came: the last one ages.
            ticks: Control ticks to run [-].
            begin: Whether a policy period begins, and with it the snapshot's sums and peaks; False
                where these ticks belong to the period before, as one by one in real time.
        """
        ...

    def stop(self, fault: Fault = Fault.COMMANDED) -> None:
        """Go to soft stop from the next tick on; left only by a reset or `rearm`.

        Args:
            fault: What the reports say was the reason.
        """
        ...
