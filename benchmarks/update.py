"""Speed of the learner's update against a loop as the field writes it, interleaved in one process.

`python benchmarks/update.py`: state 20, action 7, two hidden layers of 256, batch 256, half of it
demonstrations; an update is one critic step, and each `ratio` of them one step of the actor. Both
sides are sampled, moved and computed as in training. `reference` is `update_reference.py`, which
says why it is fair. JSON last, all rates in updates/s; a speed-up is the median of the rounds'
ratios.

`overlap` is the rate over that of the same loop when it waits for each call before it draws the
next minibatches: what it is worth that drawing and sending go on meanwhile.

`--precision bfloat16` rounds the factors of our products, and only of ours, to bfloat16: another
computation, so its rows are no part of the comparison with the reference in float32.

`gflops` counts the multiplications that the update needs whoever does it, so that the fraction of
the matmul limit (the best of the same products alone, measured between the rounds) compares both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kit.update_reference import Reference
from handrail.spec import EnvSpec
from handrail.transition import Source, Transition
from learner.algo.action import make_action_composer
from learner.algo.update import LearnerState, Update, init_state, make_update
from learner.config import LearnerConfig
from learner.data.prefetch import Prefetcher
from learner.data.replay import Replay
from learner.data.sharding import DeviceMesh
from learner.nets.mlp import Precision
from learner.nets.normaliser import identity
from learner.presets import preset

STATE, ACTION = 20, 7
ROWS, EPISODE = 20_000, 100


def spec() -> EnvSpec:
    """Return the environment that the rows are of."""
    return EnvSpec("benchmark", "0" * 16, 10.0, EPISODE, {"all": (0, STATE)}, ACTION)


def fill(config: LearnerConfig) -> Replay:
    """Return a replay of random episodes, a fifth of them demonstrations."""
    rng = np.random.default_rng(0)
    replay = Replay(config, spec())
    nothing = np.zeros(ACTION, np.float32)
    for episode in range(ROWS // EPISODE):
        source = Source.DEMO if episode % 5 == 0 else Source.ONLINE
        states = rng.standard_normal((EPISODE + 1, STATE), np.float32)
        actions = rng.uniform(-1, 1, (EPISODE, ACTION)).astype(np.float32)
        for t in range(EPISODE + 1):
            end = t == EPISODE
            replay.add(
                Transition(
                    episode=episode, t=t, source=int(source), state=states[t],
                    action=nothing if end else actions[t],
                    policy_action=nothing if end else actions[t],
                    filter_delta=nothing, base_action=nothing, base_pos=0, base_valid=False,
                    reward=0.0 if end else float(rng.random() < 0.02), end=end,
                    truncated=t == EPISODE - 1,
                )
            )  # fmt: skip
    return replay


def as_peers_keep_it(replay: Replay, demos: bool) -> dict[str, np.ndarray]:
    """Return the rows of one view with the next observation beside each."""
    view = replay.views.prior_data if demos else replay.views.online
    slots = view.members()
    next_index = replay.next_index[slots]
    return {
        "state": replay.states(slots).copy(),
        "action": replay.actions(slots).copy(),
        "reward": replay.reward[slots].copy(),
        "mask": 1.0 - replay.terminated[slots].astype(np.float32),
        "next_state": replay.states(next_index).copy(),
    }


class Ours:
    """The trainer's loop without the trainer: the feed's minibatches, one compiled call."""

    def __init__(self, config: LearnerConfig, replay: Replay) -> None:
        composer = make_action_composer(config, spec())
        self.config = config
        self.state: LearnerState = init_state(composer, STATE, ACTION, jax.random.key(0))
        self.update: Update = make_update(composer, STATE, ACTION, with_actor=True)
        self._prefetcher = Prefetcher(config, replay, DeviceMesh(1), jax.random.key(1), seed=0)
        self._normaliser = identity(STATE)
        self._updates = 0

    def run(self, calls: int, wait: bool = False) -> None:
        """Do the updates of so many environment steps and wait for the last one, or for each."""
        for _ in range(calls):
            packed = self._prefetcher.packed(self._updates)
            fixed = self._prefetcher.fixed(self._normaliser, 1.0, 1.0)
            self.state, result = self.update(self.state, packed, fixed)
            self._prefetcher.used_by(result)
            self._updates += self.config.actor_every
            if wait:
                result.block_until_ready()
        jax.block_until_ready(self.state)


def needed_flops(config: LearnerConfig) -> float:
    """Return the multiplications and additions that one update needs, on average."""
    h, rows, heads = config.hidden[0], config.batch, config.num_qs

    def forward(inputs: int, outputs: int) -> float:
        return 2.0 * rows * (inputs * h + h * h + h * outputs)

    first = 2.0 * rows * (STATE + ACTION) * h  # whose input has no gradient in the critic's step
    critic = heads * (3.0 * forward(STATE + ACTION, 1) - first)
    target = config.num_min_qs * forward(STATE + ACTION, 1) + forward(STATE, 2 * ACTION)
    actor = 2.0 * heads * forward(STATE + ACTION, 1) + 3.0 * forward(STATE, 2 * ACTION)
    return critic + target + actor / config.actor_every


def matmul_gflops(config: LearnerConfig, seconds: float) -> float:
    """Return the rate of the hidden layer's product over all heads, alone [GFLOP/s]."""
    h, shape = config.hidden[0], (config.num_qs, config.batch)
    x, w = jnp.ones((*shape, h)), jnp.ones((config.num_qs, h, h))
    multiply = jax.jit(lambda a, b: jnp.einsum("ebi,eih->ebh", a, b))
    multiply(x, w).block_until_ready()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        multiply(x, w).block_until_ready()
        count += 1
    return 2e-9 * count * config.num_qs * config.batch * h * h / (time.perf_counter() - begin)


def rate(run: Callable[[int], None], updates: int, seconds: float) -> float:
    """Return updates per second of a loop of `updates` per call over about some seconds."""
    begin = time.perf_counter()
    run(2)
    calls = max(2, round(2.0 * seconds / (time.perf_counter() - begin)))
    begin = time.perf_counter()
    run(calls)
    return updates * calls / (time.perf_counter() - begin)


def row(
    ensemble: int, ratio: int, precision: Precision, rounds: int, seconds: float
) -> dict[str, float | str]:
    """Return one row of the table."""
    config = replace(
        preset("rlpd"), num_qs=ensemble, batch=256, actor_every=ratio, utd=float(ratio),
        n_step=1, hidden=(256, 256), precision=precision,
    )  # fmt: skip
    replay = fill(config)
    ours = Ours(config, replay)
    reference = Reference(
        config,
        jax.tree.map(jnp.copy, ours.state.critic),
        jax.tree.map(jnp.copy, ours.state.actor),
        as_peers_keep_it(replay, demos=False),
        as_peers_keep_it(replay, demos=True),
    )
    ours.run(2)
    reference.run(2)
    compiled = ours.update._cache_size()  # type: ignore[attr-defined]
    us, them, waiting, limit = [], [], [], []
    for n in range(rounds):
        sides = [(us, ours.run), (them, reference.run), (waiting, partial(ours.run, wait=True))]
        for rates, run in sides if n % 2 else sides[::-1]:
            rates.append(rate(run, ratio, seconds))
        limit.append(matmul_gflops(config, 0.3 * seconds))
    gflop, best = 1e-9 * needed_flops(config), max(limit)
    speed, other = float(np.median(us)), float(np.median(them))
    return {
        "ensemble": ensemble,
        "ratio": ratio,
        "precision": precision,
        "updates_per_s": round(speed, 1),
        "ref_updates_per_s": round(other, 1),
        "speedup": round(float(np.median(np.array(us) / np.array(them))), 2),
        "speedup_min": round(float((np.array(us) / np.array(them)).min()), 2),
        "speedup_max": round(float((np.array(us) / np.array(them)).max()), 2),
        "overlap": round(float(np.median(np.array(us) / np.array(waiting))), 3),
        "ms_per_update": round(1e3 / speed, 2),
        "gflops": round(gflop * speed, 1),
        "matmul_limit_gflops": round(best, 1),
        "fraction_of_matmul_limit": round(gflop * speed / best, 3),
        "ref_fraction_of_matmul_limit": round(gflop * other / best, 3),
        "recompiles": ours.update._cache_size() - compiled,  # type: ignore[attr-defined]
    }


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each row")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each side in a round [s]")
    parser.add_argument("--ensembles", type=int, nargs="+", default=[10, 2])
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument(
        "--precision", nargs="+", default=["float32"], choices=["float32", "bfloat16"]
    )
    options = parser.parse_args()
    rows = []
    for shape in product(options.ensembles, options.ratios, options.precision):
        rows.append(row(*shape, options.rounds, options.seconds))
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    print(json.dumps({"rows": rows, "cores": len(os.sched_getaffinity(0))}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
