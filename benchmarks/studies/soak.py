"""M11: hours of simulated time under a random policy, and what the chain let through.

Episodes of a minute on `peg`, in contact as often as not: random targets, stiffness and damping
ratio, one in five driven as a person; nothing but the chain keeps it within bounds.

    python benchmarks/studies/soak.py --hours 4

The last line is a JSON object with the keys `simulated_h, episodes, energy_vs_bound_max,
torque_violations, rate_violations, clipped_ticks, gated_share, tank_min_j, not_finite, faults,
grown_kib, seconds`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter

import numpy as np

from controllers.config import ControlConfig
from controllers.robot import Authority, Fault, Request
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.energy_meter import METER
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.base import DOWN

EPISODE = 600  # [policy periods]


def main() -> int:
    """Soak; return 1 if a bound was broken."""
    parser = argparse.ArgumentParser(description="Hours of a random policy on the chain.")
    parser.add_argument("--hours", type=float, default=4.0, help="of simulated time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun, rng = time.monotonic(), np.random.default_rng(options.seed)
    task = make("peg")
    core = HostCore(task, MujocoConfig(), ControlConfig())
    core.warm_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faults: Counter[str] = Counter()
    used, over, fast, gated, ticks, clipped, wild, tank = 0.0, 0, 0, 0.0, 0.0, 0, 0, np.inf
    episodes = 0
    while ticks < options.hours * 3.6e6:
        snapshot, _ = core.reset(episodes)
        episodes += 1
        source = Authority.HUMAN if episodes % 5 == 0 else Authority.POLICY
        for seq in range(EPISODE):
            way = rng.uniform(-0.03, 0.03, 3)
            gains = (*rng.uniform(50.0, 3000.0, 3), float(rng.uniform(5.0, 150.0)))
            place = snapshot.target_position + way
            ratio = float(rng.uniform(0.3, 1.5))
            snapshot = core.step(Request(seq, int(source), place, DOWN, 0.02, gains, ratio))
            wild += int(not np.isfinite(snapshot.pack()).all())
            clipped += snapshot.torque_limited_ticks
            tank = min(tank, snapshot.tank_low)
            if snapshot.fault != Fault.NONE:
                break
        faults[Fault(snapshot.fault).name] += 1
        meter = core.robot.meter
        used = max(used, core.robot.energy_used)
        over, fast = over + int(meter[METER.torque_over]), fast + int(meter[METER.rate_over])
        gated, ticks = gated + meter[METER.gated], ticks + meter[METER.ticks]
    core.close()
    row = {
        "simulated_h": round(ticks / 3.6e6, 3),
        "episodes": episodes,
        "energy_vs_bound_max": round(used, 4),
        "torque_violations": over,
        "rate_violations": fast,
        "clipped_ticks": clipped,
        "gated_share": round(float(gated / ticks), 5),
        "tank_min_j": round(float(tank), 4),
        "not_finite": wild,
        "faults": dict(faults),
        "grown_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(row))
    return 1 if used > 1.0 or over or fast or wild else 0


if __name__ == "__main__":
    sys.exit(main())
