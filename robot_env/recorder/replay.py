"""Feed what was recorded through the chain again and compare the torques, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controllers.chain import PERIOD_SUMS, replay_tick
from controllers.packed import PARAMS_SIZE, STATE
from handrail.errors import ProtocolMismatch
from robot_env.recorder.recording import Recording
from robot_env.recorder.ring_record import START, TICK, layout


@dataclass(frozen=True)
class Difference:
    """The first tick whose torque is not the recorded one."""

    index: int  # of the record
    tick: int  # control ticks since reset
    time: float  # [s], monotonic clock
    recorded: np.ndarray  # (7,) [N m]
    replayed: np.ndarray  # (7,) [N m]
    states: list[str]  # what of the state differs as well


@dataclass(frozen=True)
class Verdict:
    """What a replay found."""

    ticks: int  # replayed
    different: int  # whose torque differs in some bit
    first: Difference | None
    starts: int  # times the state came from outside, a reset for example
    gaps: int  # times records were missing, and the replay went on from the next whole one


def replay(recording: Recording) -> Verdict:
    """Return whether the chain does again what it did.

    The chain goes on from its own state, not from the recorded one: a difference would grow.

    Args:
        recording: Of the chain as it is, see `same_layout`.

    Raises:
        ProtocolMismatch: The recording's arrays are not laid out as this version's.
    """
    if not same_layout(recording):
        raise ProtocolMismatch(
            f"{recording.path} was recorded by a chain with other inputs or another state than "
            f"this version's; replay it with the version that wrote it, code "
            f"{recording.about['code']}"
        )
    params, low, high = recording.params, *PERIOD_SUMS
    states = recording.groups["state"].view(np.float64)
    measurements, command_buffers = (
        recording.groups[name].view(np.float64) for name in ("reading", "mailbox")
    )
    kinds, indices = recording.kinds, recording.column("tick", "index")
    torques = recording.column("tick", "torque")
    sums = [name for name in STATE._fields if low <= getattr(STATE, name) < high]
    before = np.stack([recording.column("tick", f"before_{name}") for name in sums], axis=1)
    state, torque = states[0].copy(), np.empty(7)
    first, different, ticks, starts, gaps, at = None, 0, 0, 0, 0, int(kinds[0] == TICK)
    for n in range(1, len(kinds)):
        follows = indices[n] == indices[n - 1] + 1
        if kinds[n] == START or not follows:
            starts, gaps = starts + (kinds[n] == START), gaps + (not follows)
            state = states[n].copy()
            at += kinds[n] == TICK
            continue
        state[low:high] = before[n]
        risk = states[n, STATE.risk : STATE.risk_off + 1]
        replay_tick(params, state, measurements[at], command_buffers[at], risk, torque)
        at, ticks = at + 1, ticks + 1
        if not _same(torque, torques[n]).all():
            different += 1
            if first is None:
                end = 1e-9 * recording.column("tick", "end")[n]
                names = _names(~_same(state, states[n]))
                first = Difference(
                    int(indices[n]),
                    int(states[n, STATE.tick]),
                    end,
                    torques[n],
                    torque.copy(),
                    names,
                )
    return Verdict(ticks, different, first, int(starts), int(gaps))


def same_layout(recording: Recording) -> bool:
    """Return whether this version's chain has the arrays of a recording."""
    mine = {name: [list(field) for field in fields] for name, fields in layout().items()}
    return recording.about["layout"] == mine and recording.params.size == PARAMS_SIZE


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))


def _names(differs: np.ndarray) -> list[str]:
    starts = np.array([*STATE])
    return sorted({STATE._fields[int(np.searchsorted(starts, i, "right")) - 1] for i in
                   np.flatnonzero(differs)})  # fmt: skip
