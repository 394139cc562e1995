"""Multi-layer perceptrons with LayerNorm, single and as an ensemble; parameters are plain dicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp

Params = dict[str, Any]  # of arrays
Precision = Literal["float32", "bfloat16"]  # of a product's factors

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def init_mlp(
    key: jax.Array, inputs: int, hidden: Sequence[int], outputs: int, last_gain: float = 1.0
) -> Params:
    """Return weights for `mlp`: Glorot-uniform kernels, LayerNorm at identity.

    Not orthogonal ones: two of jax's QR decompositions at once, each waiting for the same two
    worker threads, hang for ever on a machine with two cores.

    Args:
        key: Random key.
        inputs: Length of the input.
        hidden: Widths.
        outputs: Length of the output.
        last_gain: Gain of the last layer; 0 makes its kernel and bias exactly zero.
    """
    params: Params = {}
    sizes = [inputs, *hidden]
    keys = jax.random.split(key, len(hidden) + 1)
    for i, (a, b) in enumerate(pairwise(sizes)):
        params[f"w{i}"] = _glorot(keys[i], (a, b), 1.0)
        params[f"b{i}"] = jnp.zeros(b, jnp.float32)
        params[f"scale{i}"] = jnp.ones(b, jnp.float32)
        params[f"shift{i}"] = jnp.zeros(b, jnp.float32)
    shape = (sizes[-1], outputs)
    params["w_out"] = (
        _glorot(keys[-1], shape, last_gain) if last_gain > 0 else jnp.zeros(shape, jnp.float32)
    )
    params["b_out"] = jnp.zeros(outputs, jnp.float32)
    return params


def _glorot(key: jax.Array, shape: tuple[int, int], gain: float) -> jax.Array:
    bound = gain * (6.0 / (shape[0] + shape[1])) ** 0.5
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def init_ensemble(
    key: jax.Array, heads: int, inputs: int, hidden: Sequence[int], outputs: int = 1
) -> Params:
    """Return weights of independent heads, stacked on a leading axis; each has its own key."""
    return jax.vmap(lambda k: init_mlp(k, inputs, hidden, outputs))(jax.random.split(key, heads))


def mlp(
    params: Params, x: jax.Array, activation: str = "relu", precision: Precision = "float32"
) -> jax.Array:
    """Return the output (..., O) of one network at inputs (..., I)."""
    hidden = activations(params, x, activation, precision)
    return PRODUCTS[precision](hidden[-1], params["w_out"]) + params["b_out"]


def activations(
    params: Params, x: jax.Array, activation: str = "relu", precision: Precision = "float32"
) -> list[jax.Array]:
    """Return what each hidden layer (..., H) of one network puts out at inputs (..., I)."""
    layers, product = [], PRODUCTS[precision]
    for i in range(_depth(params)):
        x = product(x, params[f"w{i}"]) + params[f"b{i}"]
        x = _norm(x, params[f"scale{i}"], params[f"shift{i}"])
        x = _ACTIVATIONS[activation](x)
        layers.append(x)
    return layers


def ensemble(
    params: Params, x: jax.Array, activation: str = "relu", precision: Precision = "float32"
) -> jax.Array:
    """Return one scalar per head, (E, B), for inputs (B, I) that the heads share.

    The inputs are repeated for each head: every layer is then a product of two stacks of matrices
    as they lie in memory, which XLA's CPU backend does a third faster than a contraction that
    shares them (`python benchmarks/update.py`).
    """
    product = PRODUCTS[precision]
    x = jnp.broadcast_to(x, (params["b_out"].shape[0], *x.shape))
    for i in range(_depth(params)):
        x = product(x, params[f"w{i}"]) + params[f"b{i}"][:, None]
        x = _norm(x, params[f"scale{i}"][:, None], params[f"shift{i}"][:, None])
        x = _ACTIVATIONS[activation](x)
    return product(x, params["w_out"])[..., 0] + params["b_out"]


def take_heads(params: Params, index: jax.Array) -> Params:
    """Return the weights of some heads (m,) of an ensemble; the others cost nothing."""
    return {name: leaf.at[index].get(mode="promise_in_bounds") for name, leaf in params.items()}


@jax.custom_vjp
def rounded_product(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return x @ w with both factors rounded to bfloat16 and sums in float32, as its gradients are.

    The derivative that jax would find rounds the gradients themselves, so that what Adam sees of a
    weight would have 8 bits.

    Args:
        x: (..., B, I) float32.
        w: (..., I, O) float32, with the same leading axes.

    Returns:
        (..., B, O) float32.
    """
    return _rounded(x, w)


def _forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _rounded(x, w), (x, w)


def _backward(
    factors: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = factors
    return _rounded(slope, jnp.swapaxes(w, -1, -2)), _rounded(jnp.swapaxes(x, -1, -2), slope)


rounded_product.defvjp(_forward, _backward)

PRODUCTS = {"float32": jnp.matmul, "bfloat16": rounded_product}


def _rounded(x: jax.Array, w: jax.Array) -> jax.Array:
    low = jnp.bfloat16
    return jnp.matmul(x.astype(low), w.astype(low), preferred_element_type=jnp.float32)


def _norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * scale + shift


def _depth(params: Params) -> int:
    return sum(name.startswith("scale") for name in params)
