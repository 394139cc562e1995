"""What a tick of the control chain costs, beside numpy and beside a bare timer.

The whole chain with a risk critic of 2 heads of 2 x 128 x 128 runs on made-up readings of a moving
arm, interleaved with the same chain as vectorised numpy and with a compiled bare impedance law
(kinematics, spring, damping). Then a 1 kHz loop with the chain runs in turns with a loop that only
wakes up. `--soak N` runs N random ticks inside the compiled code and looks at what comes out.

    python benchmarks/control.py --seconds 10 --soak 10000000

The last line is a JSON object with the keys `tick_us_p50, tick_us_p999, numpy_tick_us_p50, speedup,
critic_layers, tick_vs_bare_law, loop_extra_missed_per_million, wakeup_us_p50, wakeup_bare_us_p50`
and, of the soak, `soak_ticks, soak_violations, soak_growth_kib`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from itertools import pairwise
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy_chain import Memory, Seen, kinematics
from numpy_chain import tick as numpy_tick

from controllers.chain import advance, initial_state
from controllers.config import ControlConfig
from controllers.impedance import spring
from controllers.kernel import kernel
from controllers.kinematics import READY, TORQUE_MAX, forward
from controllers.layout import READING_SIZE, M, P, R, S, empty_mailbox, pack_params
from controllers.robot import Mode
from handrail.critic import Critic, Layer, pack_critic
from robot_env.realtime import Metronome, claim_rights

CONFIG = ControlConfig(tank_start=50.0, tank_max=100.0)
PARAMS = pack_params(CONFIG, 10.0)
MASS = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2])
HIDDEN = (128, 128)
PERIOD = 100  # [ticks] of the policy


def critic_of(rng: np.random.Generator) -> Critic:
    """Return a critic of 2 heads with hidden layers `HIDDEN` that never raises an alarm."""
    layers = tuple(
        Layer(
            (rng.standard_normal((2, a, b)) / np.sqrt(a)).astype(np.float32),
            np.zeros((2, b), np.float32),
        )
        for a, b in pairwise([22, *HIDDEN, 1])
    )
    return Critic(1, np.zeros(22, np.float32), np.ones(22, np.float32), layers, 1.0, 0.9)


@kernel
def bare_law(
    params: np.ndarray, state: np.ndarray, reading: np.ndarray, torque: np.ndarray
) -> None:
    """Write the torque of kinematics, spring and damping alone: nothing is checked or limited."""
    jacobian, force = np.empty((6, 7)), np.empty(6)
    pose = state[S.pose : S.pose + 7]
    q = reading[R.q : R.q + 7]
    forward(q, params[P.tool : P.tool + 3], pose, jacobian)
    target, stiffness = state[S.target : S.target + 7], state[S.stiffness : S.stiffness + 4]
    spring(params, stiffness, pose, target, force)
    for c in range(6):
        twist = 0.0
        for i in range(7):
            twist += jacobian[c, i] * reading[R.dq + i]
        force[c] -= state[S.damping + 7 * c] * twist
    for i in range(7):
        torque[i] = 0.0
        for c in range(6):
            torque[i] += jacobian[c, i] * force[c]


class Ride:
    """An arm that sways, as readings for the compiled chain and for numpy."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.critic = critic_of(rng)
        self.packed = pack_critic(self.critic)
        self.phase = rng.uniform(0.0, 6.0, 7)
        position, rotation, _ = kinematics(READY)
        stiffness = np.array([*CONFIG.stiffness, CONFIG.rotational_stiffness])
        self.memory = Memory(position, rotation, stiffness, position, position, tank=50.0)
        self.state, self.mailbox = initial_state(PARAMS), empty_mailbox()
        self.reading, self.torque = np.zeros(READING_SIZE), np.zeros(7)
        self.held, self.k = np.zeros(7), 0

    def move(self) -> Seen:
        """Move on by a tick; return what numpy sees, `reading` is what the chain sees."""
        self.k += 1
        q = READY + 0.05 * np.sin(0.005 * self.k) * np.cos(self.phase)
        dq = 0.25 * np.cos(0.005 * self.k) * np.cos(self.phase)
        reading = self.reading
        reading[R.q : R.q + 7], reading[R.dq : R.dq + 7] = q, dq
        reading[R.acted : R.acted + 7] = reading[R.held : R.held + 7] = self.held
        reading[R.mass : R.mass + 49], reading[R.elapsed] = MASS.ravel(), 1.0
        if self.k % PERIOD == 0:
            self.mailbox[M.seq] = self.k
            self.mailbox[M.pose : M.pose + 7] = self.state[S.target : S.target + 7]
        return Seen(q, dq, self.held, self.held, MASS, np.zeros(6))

    def chain(self) -> None:
        """Run the compiled tick."""
        advance(PARAMS, self.state, self.reading, self.mailbox, self.packed, self.torque)


def measure_ticks(seconds: float) -> dict[str, Any]:
    """Return the cost of a tick [us], compiled, bare and numpy, interleaved tick by tick."""
    ride = Ride()
    clock = time.perf_counter_ns
    whole, bare, plain, torque = [], [], [], np.empty(7)
    seen = ride.move()
    ride.chain()
    bare_law(PARAMS, ride.state, ride.reading, torque)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            seen = ride.move()
            begun = clock()
            ride.chain()
            middle = clock()
            bare_law(PARAMS, ride.state, ride.reading, torque)
            whole.append(middle - begun)
            bare.append(clock() - middle)
            ride.held = ride.torque.copy()
        ride.memory.q = seen.q  # numpy rides along in every twentieth tick
        begun = clock()
        numpy_tick(CONFIG, ride.memory, seen, ride.critic, PERIOD)
        plain.append(clock() - begun)
    tick, law, slow = (1e-3 * np.median(x) for x in (whole, bare, plain))
    assert ride.state[S.mode] != Mode.FAULT, "the chain isn't at work"
    assert ride.state[S.risk] > 0.0, "the critic isn't at work"
    return {
        "tick_us_p50": round(float(tick), 2),
        "tick_us_p999": round(1e-3 * float(np.quantile(whole, 0.999)), 2),
        "numpy_tick_us_p50": round(float(slow), 1),
        "speedup": round(float(slow / tick), 1),
        "critic_layers": [2, *HIDDEN],
        "tick_vs_bare_law": round(float(tick / law), 2),
        "ticks": len(whole),
    }


def measure_loop(seconds: float) -> dict[str, Any]:
    """Return how many ticks a 1 kHz loop with the chain misses beyond one that only wakes up."""
    refused = claim_rights(80, -1).refused
    ride = Ride()
    ride.move()
    ride.chain()
    slots, late = 2 * max(3, round(seconds / 2.0)), ([], [])
    wake: tuple[list[int], list[int]] = ([], [])
    for slot in range(slots):
        kind = slot % 2  # 0: with the chain, 1: bare
        # a host's chain never rests for a second; after one, a tick takes 2 to 3 ms on a machine
        # that takes idle memory away, and that was the first tick of each slot
        ride.move()
        ride.chain()
        metronome = Metronome(1e-3)
        for _ in range(1000):
            due = metronome.due
            metronome.wait()
            wake[kind].append(time.monotonic_ns() - due)
            if kind == 0:
                ride.move()
                ride.chain()
                ride.held = ride.torque.copy()
        late[kind].append(metronome.late)
    millions = 1e-6 * 1000 * slots / 2
    return {
        "loop_extra_missed_per_million": round((sum(late[0]) - sum(late[1])) / millions),
        "loop_missed_per_slot": [min(late[0]), float(np.median(late[0])), max(late[0])],
        "loop_bare_missed_per_slot": [min(late[1]), float(np.median(late[1])), max(late[1])],
        "wakeup_us_p50": round(1e-3 * float(np.median(wake[0])), 1),
        "wakeup_bare_us_p50": round(1e-3 * float(np.median(wake[1])), 1),
        "rights_refused": len(refused),
    }


@kernel
def soak(
    ticks: int,
    rng: np.random.Generator,
    params: np.ndarray,
    critic: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Run random ticks: a wandering arm, random requests, some of them nonsense.

    Args:
        ticks: How many [-].
        rng: Of everything random.
        params: Packed `ControlConfig`.
        critic: Packed risk critic.
        counts: Out, shape (4,): torque, rate, not finite, ticks in fault.
    """
    reading = np.zeros(READING_SIZE)
    mailbox, torque, last = np.zeros(64), np.zeros(7), np.zeros(7)
    fresh = _fresh(params)
    state = fresh.copy()
    q = fresh[S.q : S.q + 7].copy()
    for k in range(ticks):
        if k % 5000 == 0:  # episodes end; the arm begins anew, and so does its torque
            state = fresh.copy()
            q = fresh[S.q : S.q + 7].copy()
            last[:] = 0.0
        if k % 50 == 0:
            mailbox[M.seq] = k
            mailbox[M.source] = rng.integers(0, 3)
            for i in range(7):
                mailbox[M.pose + i] = state[S.target + i]
            for i in range(3):
                mailbox[M.pose + i] += rng.uniform(-0.05, 0.05)
            for i in range(4):
                mailbox[M.stiffness + i] = rng.uniform(0.0, 4000.0)
            mailbox[M.ratio] = rng.uniform(0.0, 2.0)
            if rng.random() < 0.02:
                mailbox[M.pose + rng.integers(0, 7)] = np.nan
            mailbox[M.heartbeat] = 1.0 if rng.random() < 0.02 else 0.0
        for i in range(7):
            dq = rng.uniform(-0.5, 0.5) - 0.3 * (q[i] - fresh[S.q + i])
            q[i] += 1e-3 * dq
            reading[R.q + i], reading[R.dq + i] = q[i], dq
            reading[R.acted + i] = reading[R.held + i] = last[i]
            for j in range(7):
                reading[R.mass + 7 * i + j] = 1.0 if i == j else 0.0
        for i in range(6):
            reading[R.wrench + i] = rng.normal(0.0, 4.0)
        reading[R.elapsed] = 1.0
        advance(params, state, reading, mailbox, critic, torque)
        for i in range(7):
            counts[0] += abs(torque[i]) > TORQUE_MAX[i]
            counts[1] += abs(torque[i] - last[i]) > params[P.torque_rate] + 1e-9
            counts[2] += not np.isfinite(torque[i])
            last[i] = torque[i]
        counts[3] += state[S.mode] == 5.0


@kernel
def _fresh(params: np.ndarray) -> np.ndarray:
    return FRESH.copy()


FRESH = initial_state(PARAMS)


def measure_soak(ticks: int) -> dict[str, Any]:
    """Return what random ticks break, and how much memory they keep [KiB]."""
    packed, counts = pack_critic(critic_of(np.random.default_rng(0))), np.zeros(4)
    soak(1000, np.random.default_rng(0), PARAMS, packed, counts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts[:] = 0.0
    soak(ticks, np.random.default_rng(1), PARAMS, packed, counts)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "soak_ticks": ticks,
        "soak_violations": int(counts[:3].sum()),
        "soak_fault_ticks": int(counts[3]),
        "soak_growth_kib": grown,
    }


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description="What a tick of the control chain costs.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--soak", type=int, default=0, help="random ticks")
    options = parser.parse_args()
    row = measure_ticks(options.seconds)
    row |= measure_soak(options.soak) if options.soak else {}
    row |= measure_loop(options.seconds)
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
