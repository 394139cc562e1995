"""What one evaluation of the risk critic costs inside a compiled loop.

    python benchmarks/studies/risk.py

The last line is one JSON object, in microseconds.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise

import numpy as np

from controllers.kernel import kernel
from controllers.risk import SCRATCH_SIZE, predict_risk
from handrail.risk_critic.format import Layer, RiskCritic, pack_critic

INPUTS, ROWS, ROUNDS = 32, 500, 200


def made(hidden: tuple[int, ...], heads: int) -> np.ndarray:
    """Return a packed critic of random weights."""
    rng = np.random.default_rng(0)
    layers = tuple(
        Layer(
            (rng.normal(size=(heads, a, b)) / a**0.5).astype(np.float32),
            np.zeros((heads, b), np.float32),
        )
        for a, b in pairwise([INPUTS, *hidden, 1])
    )
    return pack_critic(RiskCritic(1, np.zeros(INPUTS), np.ones(INPUTS), layers))


@kernel
def many(weights: np.ndarray, rows: np.ndarray, work: np.ndarray) -> float:
    """Evaluate every row."""
    total = 0.0
    for i in range(len(rows)):
        total += predict_risk(weights, rows[i], work)
    return total


def main() -> None:
    """Measure and print."""
    rows = np.random.default_rng(1).normal(size=(ROWS, INPUTS))
    work, costs = np.zeros(SCRATCH_SIZE, np.float32), {}
    for hidden, heads in (((64, 64), 2), ((128, 128), 2), ((256, 256), 2), ((128, 128), 8)):
        weights, took = made(hidden, heads), []
        many(weights, rows, work)
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            many(weights, rows, work)
            took.append((time.perf_counter() - begin) / ROWS * 1e6)
        name = f"{heads} heads of {'x'.join(map(str, hidden))}"
        costs[name] = {"median": round(float(np.median(took)), 2), "best": round(min(took), 2)}
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
