"""A short run of the trainer on some devices, which tests start as a process: `sharded.py OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import numpy as np
from made_rows import SPEC, make_episode

from handrail.transition import Source
from learner.config import BaseConfig
from learner.presets import preset
from learner.trainer import Trainer

CALLS = 3


def run(devices: int, replay: Literal["host", "device"] = "host") -> dict[str, np.ndarray]:
    """Return state and metrics after a few compiled calls, with rows that come between them."""
    config = preset(
        "rlpd", hidden=(32, 32), batch=16, num_qs=3, total_steps=200, collect=0.0,
        capacity=1000, devices=devices, replay=replay,
    )  # fmt: skip
    trainer = Trainer(config, BaseConfig(kind="none"), SPEC, seed=1)
    for episode in range(4):
        for row in make_episode(episode, 9, Source.DEMO):
            trainer.add(row)
    trainer.fit_base()
    arrays: dict[str, np.ndarray] = {}
    for call in range(CALLS):
        for row in make_episode(10 + call, 8):
            trainer.add(row)
        metrics = trainer.advance(config.actor_every)
        arrays |= {f"metrics/{call}/{name}": np.asarray(value) for name, value in metrics.items()}
    diagnosed = trainer.diagnose()
    arrays |= {f"diagnosed/{name}": np.asarray(value) for name, value in diagnosed.items()}
    arrays |= {f"packet/{name}": array for name, array in trainer.packet()[1].items()}
    return arrays | trainer.state_dict()["arrays"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--replay", choices=["host", "device"], default="host")
    parser.add_argument("--coordinator", help="address:port, if there are two processes")
    parser.add_argument("--process", type=int, default=0)
    options = parser.parse_args()
    if options.coordinator:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(options.coordinator, 2, options.process)
    arrays = run(options.devices, options.replay)
    np.savez(options.out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
