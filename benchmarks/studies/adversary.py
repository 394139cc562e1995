"""Search for requests that draw more energy out of the arm's controller than its window allows.

A policy of targets and stiffness, linear in what it sees and switching like a bang-bang control,
is evolved (CMA-ES) to make the independent meter's measured / allowed energy as large as it can,
with a tick of delay and lost commands. The same search runs against the chain as it is, against
one without its gate, and against one that books the torque it sent instead of the torque that
acted: a search that breaks nothing proves nothing.

    python benchmarks/studies/adversary.py --generations 12

The last line is a JSON object with the keys `energy_vs_bound_max, energy_vs_bound_max_off,
energy_vs_bound_max_books_sent, evaluations, seconds, torque_violations, rate_violations`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from controllers.config import ControlConfig
from controllers.robot import Request
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.energy_meter import METER
from robot_env.arms.sim.mujoco_robot import MujocoRobot

WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".62 0 .3" solref="-100000 -200"/>'
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.52, 0.0, 0.3])
PERIOD = 5  # [ticks], between requests: 200 Hz, faster than any policy
SEEN = 10  # inputs of the adversary
GENES = 4 * SEEN + 3
REAL = MujocoConfig(  # nothing but the controller takes energy out
    friction=(0.0, 0.0),
    damping=(0.0, 0.0),
    payload_error=(0.0, 0.0),
    delay=1,
    loss=0.01,
    loss_ticks=10,
)


class Kind(NamedTuple):
    """A chain under attack."""

    control: ControlConfig
    real: MujocoConfig


# The energy claim must hold alone: nothing else may slow the adversary down, and little is allowed.
OTHERS = ("target_error", "box", "speed", "contact", "keep_out")
BARE = ControlConfig(
    disabled_stages=OTHERS,
    max_stretch=0.03,
    force_limit=1e4,
    tank_start=0.4,
    tank_max=0.4,
    refill=0.0,
    dissipation_credit=1.0,
    joint_damping=0.0,
    posture_damping=0.0,
    posture_stiffness=0.0,
    damping_ratio_range=(0.01, 1.0),
)
KINDS = {
    "on": Kind(BARE, REAL),
    "off": Kind(replace(BARE, disabled_stages=(*OTHERS, "energy", "torque", "passivity")), REAL),
    "books_sent": Kind(BARE, replace(REAL, echo="sent")),
}


class Outcome(NamedTuple):
    """What an attack came to."""

    used: float  # [-], largest measured / allowed energy of any window
    torque_violations: int  # ticks
    rate_violations: int  # ticks


def attack(robot: MujocoRobot, genes: np.ndarray, seed: int, seconds: float) -> Outcome:
    """Return what a policy of these genes draws out.

    Args:
        robot: Under attack.
        genes: Shape (GENES,).
        seed: Of the arm's imperfections.
        seconds: How long [s].
    """
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(seed))
    weights, rest = genes[: 4 * SEEN].reshape(4, SEEN), genes[4 * SEEN :]
    snapshot = robot.snapshot()
    for k in range(round(seconds * 1000 / PERIOD)):
        phase = 2.0 * np.pi * (0.5 + 12.0 / (1.0 + np.exp(-rest[0]))) * k * PERIOD * 1e-3
        seen = np.concatenate(
            [
                10.0 * snapshot.twist[:3],
                100.0 * (snapshot.target_position - snapshot.position),
                5.0 * (snapshot.position - START),
                [np.sin(phase)],
            ]
        )
        wish = np.tanh(4.0 * weights @ seen)
        reach = 0.1 / (1.0 + np.exp(-rest[1]))
        stiff = float(np.exp(np.log(100.0) + 0.5 * (wish[3] + 1.0) * np.log(30.0)))
        stiffness = (stiff, stiff, stiff, 40.0 + 40.0 * wish[3])
        place = snapshot.position + reach * wish[:3]
        request = Request(snapshot.request_seq + 1, 0, place, DOWN, 0.0, stiffness, 0.01)
        snapshot = robot.run(request, PERIOD)
    meter = robot.meter  # of the torque that acted: one that was sent and lost steps from nothing
    return Outcome(robot.energy_used, int(meter[METER.torque_over]), int(meter[METER.rate_over]))


def search(kind: Kind, generations: int, seed: int, seconds: float = 4.0) -> dict[str, Any]:
    """Evolve an adversary; return the worst that was found.

    Args:
        kind: Chain under attack.
        generations: Of the evolution, 12 policies each.
        seed: Of the evolution.
        seconds: Length of an attack [s].
    """
    import cma

    robot = MujocoRobot(build_scene(WALL, gripper=False), kind.real, kind.control, 10.0)
    options = {"popsize": 12, "seed": seed + 1, "verbose": -9}
    evolution = cma.CMAEvolutionStrategy(np.zeros(GENES), 0.5, options)
    worst, torque, rate, count = -np.inf, 0, 0, 0
    for _ in range(generations):
        genes = evolution.ask()
        found = [attack(robot, g, seed, seconds) for g in genes]
        evolution.tell(genes, [-outcome.used for outcome in found])
        worst = max(worst, *(outcome.used for outcome in found))
        torque += sum(outcome.torque_violations for outcome in found)
        rate += sum(outcome.rate_violations for outcome in found)
        count += len(found)
    return {"used": worst, "torque": torque, "rate": rate, "evaluations": count}


def main() -> int:
    """Attack every kind; return 1 if the chain was broken or the search is too weak to say."""
    parser = argparse.ArgumentParser(description="Attack the control chain's energy bound.")
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    begun = time.monotonic()
    found = {}
    for name, kind in KINDS.items():
        runs = [search(kind, options.generations, seed) for seed in options.seeds]
        found[name] = {key: max(run[key] for run in runs) for key in runs[0]}
        print(name, json.dumps(runs), flush=True)
    row = {
        "energy_vs_bound_max": found["on"]["used"],
        "energy_vs_bound_max_off": found["off"]["used"],
        "energy_vs_bound_max_books_sent": found["books_sent"]["used"],
        "evaluations": sum(f["evaluations"] for f in found.values()) * len(options.seeds),
        "torque_violations": found["on"]["torque"],
        "rate_violations": found["on"]["rate"],  # one that is told lies of the torque keeps none
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(row))
    broken = row["energy_vs_bound_max"] > 1.0
    blind = min(row["energy_vs_bound_max_off"], row["energy_vs_bound_max_books_sent"]) <= 1.0
    return 1 if broken or blind else 0


if __name__ == "__main__":
    sys.exit(main())
