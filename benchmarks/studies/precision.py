"""What bfloat16 products do to learning: one small task, both precisions, several seeds.

`PYTHONPATH=tests/kit python benchmarks/studies/precision.py --seeds 5`: a residual learns to
correct a base that is always off (`tests/kit/point_reach.py`, 2000 steps, 100 evaluation episodes
each). What came of it is in docs/learner.md;
`python benchmarks/update.py --precision float32 bfloat16` says what is gained.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Literal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from point_reach import biased_demos, success_rate, train

from learner.config import BaseConfig
from learner.presets import preset

BASE = BaseConfig(chunk=4, execute=4, hidden=(64, 64), max_steps=1500)
SMALL = {"total_steps": 2000, "hidden": (64, 64), "batch": 128, "num_qs": 3, "discount": 0.95}


def success(precision: Literal["float32", "bfloat16"], seed: int) -> float:
    """Return the share of evaluation episodes that a trained policy solves."""
    config = preset("residual_hil", **SMALL, precision=precision)
    _, policy = train(config, BASE, seed, biased_demos(20, seed))
    return success_rate(policy, "eval", 100)


def main() -> int:
    """Run the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        rows.append((success("float32", seed), success("bfloat16", seed)))
        print(f"seed {seed} float32 {rows[-1][0]:.2f} bfloat16 {rows[-1][1]:.2f}", flush=True)
    both = np.array(rows)
    difference = both[:, 1] - both[:, 0]
    print(
        json.dumps(
            {
                "float32": both[:, 0].tolist(),
                "bfloat16": both[:, 1].tolist(),
                "difference": round(float(difference.mean()), 3),
                "deviation": round(float(difference.std(ddof=1)), 3) if len(rows) > 1 else None,
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
