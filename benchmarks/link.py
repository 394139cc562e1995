"""What the link carries, beside bare sockets and a bare disk that move the same bytes.

    python benchmarks/link.py --rounds 5 --seconds 3

An image transition has one new 128 x 128 x 3 frame of each of two cameras (98.3 kB); a state
transition has 20 numbers and a 7-dimensional action. Every rate counts from the actor's `send`,
encoding included, until the learner has checked and taken the last row and its acknowledgement is
back; a *durable* one has the real spool and the real store on one disk, the others keep rows in
memory. The references run in turns with ours: PUSH/PULL of the same incompressible bytes, one row a
message, and `write` with `fdatasync`, 1 MiB at a time, in the folder of spool and store.

The last line is a JSON object with the keys `state_tps, state_tps_vs_raw, image_tps, image_vs_raw,
image_vs_raw_curve, durable_state_tps, durable_image_tps, disk_mbps, durable_vs_disk,
publish_4mb_blocked_ms, publish_20mb_blocked_ms, publish_20mb_e2e_ms, rtt_us_p50,
actors64_image_tps, actors64_jain, send_us_p999, bare_loop_us_p999`. A rate is the median of the
rounds, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.link_limits import disk_rate, push_rate
from benchmarks.kit.link_sides import acquaint, spec_of, stream_rate
from benchmarks.kit.link_waits import loop_us, many_actors, publish_ms, round_trip_us
from handrail.link.transition_codec import row_bytes

Rates = dict[str, list[float]]


def measure_rates(parent: Path, rounds: int, seconds: float) -> Rates:
    """Return the rates of every side, one of each round, in turns."""
    state, image = row_bytes(spec_of(False)), row_bytes(spec_of(True))

    def durable(images: bool) -> float:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            return stream_rate(images, seconds, Path(folder))

    keys = parent / "keys"
    acquaint(keys)
    sides = {
        "state": lambda: stream_rate(False, seconds, None),
        "state_raw": lambda: push_rate(state, seconds),
        "image": lambda: stream_rate(True, seconds, None),
        "image_raw": lambda: push_rate(image, seconds),
        "image_curve": lambda: stream_rate(True, seconds, None, keys),
        "image_raw_curve": lambda: push_rate(image, seconds, curve=True),
        "disk": lambda: disk_rate(parent, seconds),
        "durable_image": lambda: durable(True),
        "durable_state": lambda: durable(False),
    }
    rates: Rates = {name: [] for name in sides}
    for n in range(rounds):
        for name in list(sides)[:: 1 if n % 2 == 0 else -1]:
            rates[name].append(sides[name]())
            print(f"round {n + 1}, {name}: {rates[name][-1]:.0f} /s", flush=True)
    return rates


def figures_of(rates: Rates) -> dict[str, Any]:
    """Return the figures that follow from the rates."""

    def median(name: str) -> float:
        return float(np.median(rates[name]))

    def ratio(name: str, reference: str, factor: float = 1.0) -> float:
        ratios = factor * np.array(rates[name]) / np.array(rates[reference])
        return round(float(np.median(ratios)), 3)

    return {
        "state_tps": round(median("state")),
        "state_tps_vs_raw": ratio("state", "state_raw"),
        "image_tps": round(median("image")),
        "image_vs_raw": ratio("image", "image_raw"),
        "image_vs_raw_curve": ratio("image_curve", "image_raw_curve"),
        "durable_state_tps": round(median("durable_state")),
        "durable_image_tps": round(median("durable_image")),
        "disk_mbps": round(1e-6 * median("disk"), 1),
        "durable_vs_disk": ratio("durable_image", "disk", row_bytes(spec_of(True))),
    }


def measure_waits(parent: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of publishing, asking, many actors and a learner that is gone."""
    small, _ = publish_ms(4_000_000, options.publications)
    blocked, arrived = publish_ms(20_000_000, options.publications)
    figures: dict[str, Any] = {
        "publish_4mb_blocked_ms": round(small, 2),
        "publish_20mb_blocked_ms": round(blocked, 2),
        "publish_20mb_e2e_ms": round(arrived, 1),
        "rtt_us_p50": round(round_trip_us(2000), 1),
    }
    total, jain = many_actors(options.actors, 2 * options.seconds)
    figures |= {"actors64_image_tps": round(total), "actors64_jain": round(jain, 3)}
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        sending, bare = loop_us(Path(folder), options.steps)
    return figures | {"send_us_p999": round(sending), "bare_loop_us_p999": round(bare)}


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each side in a round [s]")
    parser.add_argument("--publications", type=int, default=30, help="of each size")
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6000, help="sent while the learner is gone")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's if none")
    parser.add_argument("--only", choices=["rates", "waits"])
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="handrail-link-", dir=options.folder) as folder:
        if options.only != "waits":
            figures |= figures_of(measure_rates(Path(folder), options.rounds, options.seconds))
        if options.only != "rates":
            figures |= measure_waits(Path(folder), options)
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
