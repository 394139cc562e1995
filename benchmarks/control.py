"""What a tick of the control chain costs, beside numpy and beside a bare timer.

The whole chain with a risk critic of 2 heads of 2 x 128 x 128 runs on made-up states of a moving
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

from benchmarks.kit.numpy_chain import Memory, Seen, kinematics
from benchmarks.kit.numpy_chain import tick as numpy_tick
from controllers.chain import advance, initial_state
from controllers.config import ControlConfig
from controllers.impedance import spring
from controllers.kernel import kernel
from controllers.kinematics import READY, TORQUE_MAX, forward
from controllers.packed import (
    CMD,
    MEAS,
    MEASUREMENT_SIZE,
    PARAM,
    STATE,
    empty_command_buffer,
    pack_params,
)
from controllers.robot import Mode
from handrail.risk_critic.format import Layer, RiskCritic, pack_critic
from robot_env.scheduling import PeriodicTimer, acquire_rt_privileges

CONFIG = ControlConfig(tank_start=50.0, tank_max=100.0)
PARAMS = pack_params(CONFIG, 10.0)
MASS = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2])
HIDDEN = (128, 128)
PERIOD = 100  # [ticks] of the policy


def critic_of(rng: np.random.Generator) -> RiskCritic:
    """Return a critic of 2 heads with hidden layers `HIDDEN` that never raises an alarm."""
    layers = tuple(
        Layer(
            (rng.standard_normal((2, a, b)) / np.sqrt(a)).astype(np.float32),
            np.zeros((2, b), np.float32),
        )
        for a, b in pairwise([22, *HIDDEN, 1])
    )
    return RiskCritic(1, np.zeros(22, np.float32), np.ones(22, np.float32), layers, 1.0, 0.9)


@kernel
def bare_law(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, torque: np.ndarray
) -> None:
    """Write the torque of kinematics, spring and damping alone: nothing is checked or limited."""
    jacobian, force = np.empty((6, 7)), np.empty(6)
    pose = state[STATE.pose : STATE.pose + 7]
    q = measurement[MEAS.q : MEAS.q + 7]
    forward(q, params[PARAM.tool : PARAM.tool + 3], pose, jacobian)
    target, stiffness = (
        state[STATE.target : STATE.target + 7],
        state[STATE.stiffness : STATE.stiffness + 4],
    )
    spring(params, stiffness, pose, target, force)
    for c in range(6):
        twist = 0.0
        for i in range(7):
            twist += jacobian[c, i] * measurement[MEAS.dq + i]
        force[c] -= state[STATE.damping + 7 * c] * twist
    for i in range(7):
        torque[i] = 0.0
        for c in range(6):
            torque[i] += jacobian[c, i] * force[c]


class Ride:
    """An arm that sways, as measurements for the compiled chain and for numpy."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.critic = critic_of(rng)
        self.packed = pack_critic(self.critic)
        self.phase = rng.uniform(0.0, 6.0, 7)
        position, rotation, _ = kinematics(READY)
        stiffness = np.array([*CONFIG.stiffness, CONFIG.rotational_stiffness])
        self.memory = Memory(position, rotation, stiffness, position, position, tank=50.0)
        self.state, self.command_buffer = initial_state(PARAMS), empty_command_buffer()
        self.measurement, self.torque = np.zeros(MEASUREMENT_SIZE), np.zeros(7)
        self.held, self.k = np.zeros(7), 0

    def move(self) -> Seen:
        """Move on by a tick; return what numpy sees, `measurement` is what the chain sees."""
        self.k += 1
        q = READY + 0.05 * np.sin(0.005 * self.k) * np.cos(self.phase)
        dq = 0.25 * np.cos(0.005 * self.k) * np.cos(self.phase)
        measurement = self.measurement
        measurement[MEAS.q : MEAS.q + 7], measurement[MEAS.dq : MEAS.dq + 7] = q, dq
        measurement[MEAS.applied_torque : MEAS.applied_torque + 7] = measurement[
            MEAS.commanded_torque : MEAS.commanded_torque + 7
        ] = self.held
        measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49], measurement[MEAS.elapsed] = (
            MASS.ravel(),
            1.0,
        )
        if self.k % PERIOD == 0:
            self.command_buffer[CMD.seq] = self.k
            self.command_buffer[CMD.pose : CMD.pose + 7] = self.state[
                STATE.target : STATE.target + 7
            ]
        return Seen(q, dq, self.held, self.held, MASS, np.zeros(6))

    def chain(self) -> None:
        """Run the compiled tick."""
        advance(PARAMS, self.state, self.measurement, self.command_buffer, self.packed, self.torque)


def measure_ticks(seconds: float) -> dict[str, Any]:
    """Return the cost of a tick [us], compiled, bare and numpy, interleaved tick by tick."""
    ride = Ride()
    clock = time.perf_counter_ns
    whole, bare, plain, torque = [], [], [], np.empty(7)
    seen = ride.move()
    ride.chain()
    bare_law(PARAMS, ride.state, ride.measurement, torque)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            seen = ride.move()
            begun = clock()
            ride.chain()
            middle = clock()
            bare_law(PARAMS, ride.state, ride.measurement, torque)
            whole.append(middle - begun)
            bare.append(clock() - middle)
            ride.held = ride.torque.copy()
        ride.memory.q = seen.q  # numpy rides along in every twentieth tick
        begun = clock()
        numpy_tick(CONFIG, ride.memory, seen, ride.critic, PERIOD)
        plain.append(clock() - begun)
    tick, law, slow = (1e-3 * np.median(x) for x in (whole, bare, plain))
    assert ride.state[STATE.mode] != Mode.FAULT, "the chain isn't at work"
    assert ride.state[STATE.risk] > 0.0, "the critic isn't at work"
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
    refused = acquire_rt_privileges(80, -1).refused
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
        timer = PeriodicTimer(1e-3)
        for _ in range(1000):
            due = timer.due
            timer.wait()
            wake[kind].append(time.monotonic_ns() - due)
            if kind == 0:
                ride.move()
                ride.chain()
                ride.held = ride.torque.copy()
        late[kind].append(timer.late)
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
    measurement = np.zeros(MEASUREMENT_SIZE)
    command_buffer, torque, last = np.zeros(64), np.zeros(7), np.zeros(7)
    fresh = _fresh(params)
    state = fresh.copy()
    q = fresh[STATE.q : STATE.q + 7].copy()
    for k in range(ticks):
        if k % 5000 == 0:  # episodes end; the arm begins anew, and so does its torque
            state = fresh.copy()
            q = fresh[STATE.q : STATE.q + 7].copy()
            last[:] = 0.0
        if k % 50 == 0:
            command_buffer[CMD.seq] = k
            command_buffer[CMD.authority] = rng.integers(0, 3)
            for i in range(7):
                command_buffer[CMD.pose + i] = state[STATE.target + i]
            for i in range(3):
                command_buffer[CMD.pose + i] += rng.uniform(-0.05, 0.05)
            for i in range(4):
                command_buffer[CMD.stiffness + i] = rng.uniform(0.0, 4000.0)
            command_buffer[CMD.damping_ratio] = rng.uniform(0.0, 2.0)
            if rng.random() < 0.02:
                command_buffer[CMD.pose + rng.integers(0, 7)] = np.nan
            command_buffer[CMD.heartbeat] = 1.0 if rng.random() < 0.02 else 0.0
        for i in range(7):
            dq = rng.uniform(-0.5, 0.5) - 0.3 * (q[i] - fresh[STATE.q + i])
            q[i] += 1e-3 * dq
            measurement[MEAS.q + i], measurement[MEAS.dq + i] = q[i], dq
            measurement[MEAS.applied_torque + i] = measurement[MEAS.commanded_torque + i] = last[i]
            for j in range(7):
                measurement[MEAS.mass_matrix + 7 * i + j] = 1.0 if i == j else 0.0
        for i in range(6):
            measurement[MEAS.wrench + i] = rng.normal(0.0, 4.0)
        measurement[MEAS.elapsed] = 1.0
        advance(params, state, measurement, command_buffer, critic, torque)
        for i in range(7):
            counts[0] += abs(torque[i]) > TORQUE_MAX[i]
            counts[1] += abs(torque[i] - last[i]) > params[PARAM.torque_rate] + 1e-9
            counts[2] += not np.isfinite(torque[i])
            last[i] = torque[i]
        counts[3] += state[STATE.mode] == 5.0


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
