"""Weights are float32, and the same to the bit, whatever jax was told about 64 bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parents[2] / "kit"
TRAINING = """
import hashlib, sys
import jax
from made_rows import SPEC, make_episode
from handrail.transition import Source
from learner.config import BaseConfig
from learner.policy.policy import Policy
from learner.presets import preset
from learner.trainer import Trainer

if "config" in sys.argv:
    jax.config.update("jax_enable_x64", True)
base = BaseConfig(chunk=4, execute=4, hidden=(16, 16), max_steps=40)
config = preset("residual_hil", hidden=(16, 16), batch=8, total_steps=200, num_qs=3, collect=0.1)
trainer = Trainer(config, base, SPEC, seed=1)
for source, count in ((Source.DEMO, 4), (Source.ONLINE, 6)):
    for number in range(count):
        for row in make_episode(number, 9, source):
            trainer.add(row)
    if not trainer.fitted:
        trainer.fit_base()
trainer.advance(trainer.due(), report=False)
assert trainer.updates > 0
arrays = trainer.state_dict()["arrays"]
assert not [name for name, array in arrays.items() if array.dtype.itemsize == 8], arrays
policy = Policy(SPEC, config, base, 5)
policy.load(*trainer.packet())
digest = hashlib.sha256()
for name in sorted(arrays):
    digest.update(name.encode() + arrays[name].tobytes())
digest.update(policy.act(next(iter(make_episode(1, 9, Source.ONLINE))).state).action.tobytes())
print(digest.hexdigest())
"""


def trained(*arguments: str, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, *arguments], capture_output=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(KIT), *sys.path]), **environment},
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_sixty_four_bits_of_jax_change_no_bit_of_the_weights():
    alone, said = trained(JAX_ENABLE_X64="0")
    assert "float32" not in said
    for wide in (trained(JAX_ENABLE_X64="1"), trained("config", JAX_ENABLE_X64="0")):
        assert wide[0] == alone
        assert wide[1].count("Handrail computes in float32") == 1
