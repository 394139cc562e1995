"""The precision that Handrail computes in."""

from __future__ import annotations

import logging

import jax

log = logging.getLogger("handrail")


def use_float32() -> None:
    """Have jax compute in float32 in this process, whatever JAX_ENABLE_X64 says.

    Weights, checkpoints and what travels are float32; with 64 bits jax would make wider ones on the
    way, which neither the actor nor a checkpoint takes, and every result would be another.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        log.warning("JAX_ENABLE_X64 is put off: Handrail computes in float32")
        jax.config.update("jax_enable_x64", False)
