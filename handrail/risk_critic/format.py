"""The risk critic as one flat array of numbers: what is trained, sent, stored and run is the same.

    header (16) | input mean | inverse_std (1/deviation) | per head: kernel, bias, …, kernel, bias

Everything is float32, whole numbers included (large ones in two halves), so that the array passes
every check for finite numbers on its way. Kernels are stored input-major: the products of one input
with all outputs lie side by side, and the 1 kHz loop runs over those. A CRC-32 covers all of it.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from handrail.errors import CheckpointError

FORMAT = 1  # of the array
HEADER_SIZE = 16  # [values], the last ones unused and zero
MAX_INPUTS, MAX_HEADS, MAX_LAYERS, MAX_WIDTH = 32, 8, 3, 256
INPUT_CLIP = 10.0  # [deviations], beyond it a network's word is worth nothing
_HALF = 1 << 16


class HeaderOffsets(NamedTuple):
    """Offsets into the header."""

    format: int
    version_high: int  # the version is 65536 * high + low
    version_low: int
    inputs: int
    heads: int  # 0: an empty critic, which knows of no risk
    layers: int  # hidden ones
    widths: int  # (3,) of the hidden layers, 0 for those that aren't there
    threshold_on: int  # [-], a risk above it is an alarm
    threshold_off: int  # [-], the alarm lasts until the risk is below it
    checksum_high: int  # CRC-32 with both halves zero
    checksum_low: int


RISK_HEADER = HeaderOffsets(0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12)


class Layer(NamedTuple):
    """Weights of one layer of every head."""

    kernel: np.ndarray  # (heads, inputs, outputs) float32
    bias: np.ndarray  # (heads, outputs) float32


class RiskCritic(NamedTuple):
    """An ensemble of ReLU networks, each with one logit; the risk is the most pessimistic one's."""

    version: int  # [-], the newer one wins
    mean: np.ndarray  # (inputs,) float32, subtracted from the features
    inverse_std: np.ndarray  # (inputs,) float32, then multiplied; 0 for a feature that never varied
    layers: tuple[Layer, ...]  # hidden ones, then the output; () for an empty critic
    threshold_on: float = 1.0  # [-]
    threshold_off: float = 0.5  # [-]

    @property
    def heads(self) -> int:
        """Networks in the ensemble."""
        return len(self.layers[0].bias) if self.layers else 0


def empty_critic() -> np.ndarray:
    """Return the packed critic without heads: risk 0 everywhere, so the limits hold alone."""
    return pack_critic(RiskCritic(0, np.zeros(0), np.zeros(0), ()))


def pack_critic(critic: RiskCritic) -> np.ndarray:
    """Return a critic as a flat float32 array that `check_critic` accepts.

    Raises:
        CheckpointError: Its sizes don't fit each other or the bounds, or a value is not finite.
    """
    inputs, heads = critic.mean.size, critic.heads
    hidden = [layer.bias.shape[1] for layer in critic.layers[:-1]]
    if not 0 <= critic.version < _HALF * _HALF:
        raise CheckpointError(f"a critic's version is in 0..2^32-1, got {critic.version}")
    _check_sizes(inputs, heads, hidden)
    for (a, b), layer in zip(pairwise([inputs, *hidden, 1]), critic.layers, strict=False):
        shapes = (layer.kernel.shape, layer.bias.shape)
        if shapes != ((heads, a, b), (heads, b)):
            raise CheckpointError(
                f"a critic's layer has kernel {(heads, a, b)} and bias {(heads, b)}, got {shapes}"
            )
    header = np.zeros(HEADER_SIZE, np.float32)
    header[RISK_HEADER.format], header[RISK_HEADER.inputs], header[RISK_HEADER.heads] = (
        FORMAT,
        inputs,
        heads,
    )
    header[RISK_HEADER.version_high], header[RISK_HEADER.version_low] = divmod(
        critic.version, _HALF
    )
    header[RISK_HEADER.layers] = len(hidden)
    header[RISK_HEADER.widths : RISK_HEADER.widths + len(hidden)] = hidden
    header[RISK_HEADER.threshold_on], header[RISK_HEADER.threshold_off] = (
        critic.threshold_on,
        critic.threshold_off,
    )
    parts = [header, critic.mean, critic.inverse_std]
    for head in range(heads):
        parts += [part[head].ravel() for layer in critic.layers for part in layer]
    array = np.concatenate(parts).astype(np.float32)
    array[[RISK_HEADER.checksum_high, RISK_HEADER.checksum_low]] = divmod(_checksum(array), _HALF)
    check_critic(array)
    return array


def unpack_critic(array: np.ndarray) -> RiskCritic:
    """Return the critic of a flat array; weights are copied.

    Raises:
        CheckpointError: See `check_critic`.
    """
    check_critic(array)
    inputs, heads, hidden = _sizes(array)
    at = HEADER_SIZE + 2 * inputs
    mean, inverse_std = array[HEADER_SIZE : HEADER_SIZE + inputs], array[HEADER_SIZE + inputs : at]
    layers = []
    if heads:
        heads_flat = array[at:].reshape(heads, -1)
        start = 0
        for a, b in pairwise([inputs, *hidden, 1]):
            kernel = heads_flat[:, start : start + a * b].reshape(heads, a, b)
            bias = heads_flat[:, start + a * b : start + a * b + b]
            layers.append(Layer(kernel.copy(), bias.copy()))
            start += a * b + b
    on, off = float(array[RISK_HEADER.threshold_on]), float(array[RISK_HEADER.threshold_off])
    return RiskCritic(version_of(array), mean.copy(), inverse_std.copy(), tuple(layers), on, off)


def version_of(array: np.ndarray) -> int:
    """Return the version of a packed critic."""
    return _HALF * int(array[RISK_HEADER.version_high]) + int(array[RISK_HEADER.version_low])


def check_critic(array: np.ndarray) -> None:
    """Raise unless an array is a whole packed critic; nothing about it is taken for granted.

    Raises:
        CheckpointError: Wrong type, format, size or checksum, thresholds out of order, or a value
            that is not finite.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 1:
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array)
        raise CheckpointError(f"a packed critic is a flat float32 array, got {what}")
    if array.size < HEADER_SIZE:
        raise CheckpointError(f"a packed critic has {HEADER_SIZE} values or more, got {array.size}")
    if not np.isfinite(array).all():
        raise CheckpointError("a packed critic must be finite, it holds a NaN or an infinity")
    if array[RISK_HEADER.format] != FORMAT:
        raise CheckpointError(
            f"the critic has format {array[RISK_HEADER.format]:g}, this reads {FORMAT}"
        )
    whole = array[
        [*range(RISK_HEADER.threshold_on), RISK_HEADER.checksum_high, RISK_HEADER.checksum_low]
    ]
    if (whole < 0).any() or (whole >= _HALF).any() or (whole != np.floor(whole)).any():
        raise CheckpointError(f"the critic's header must hold whole numbers, got {whole}")
    inputs, heads, hidden = _sizes(array)
    _check_sizes(inputs, heads, hidden)
    wanted = _size(inputs, heads, hidden)
    if array.size != wanted:
        raise CheckpointError(
            f"a critic of {heads} heads {[inputs, *hidden, 1]} has {wanted} values, "
            f"got {array.size}"
        )
    high, low = divmod(_checksum(array), _HALF)
    if (array[RISK_HEADER.checksum_high], array[RISK_HEADER.checksum_low]) != (high, low):
        raise CheckpointError("the critic is damaged: its checksum differs")
    on, off = float(array[RISK_HEADER.threshold_on]), float(array[RISK_HEADER.threshold_off])
    if not 0.0 <= off <= on <= 1.0:
        raise CheckpointError(f"thresholds must be 0 <= off <= on <= 1, got off {off}, on {on}")


def _sizes(array: np.ndarray) -> tuple[int, int, list[int]]:
    layers = min(int(array[RISK_HEADER.layers]), MAX_LAYERS + 1)
    hidden = [
        int(w) for w in array[RISK_HEADER.widths : RISK_HEADER.widths + min(layers, MAX_LAYERS)]
    ]
    return (
        int(array[RISK_HEADER.inputs]),
        int(array[RISK_HEADER.heads]),
        hidden + [0] * (layers - len(hidden)),
    )


def _check_sizes(inputs: int, heads: int, hidden: list[int]) -> None:
    if heads == 0:
        if inputs or hidden:
            raise CheckpointError(f"an empty critic has no inputs or layers: {inputs}, {hidden}")
        return
    if not (0 < inputs <= MAX_INPUTS and heads <= MAX_HEADS and 0 < len(hidden) <= MAX_LAYERS):
        raise CheckpointError(
            f"a critic has 1..{MAX_INPUTS} inputs, up to {MAX_HEADS} heads and 1..{MAX_LAYERS} "
            f"hidden layers, got {inputs}, {heads} and {len(hidden)}"
        )
    if not all(0 < width <= MAX_WIDTH for width in hidden):
        raise CheckpointError(f"hidden layers are 1..{MAX_WIDTH} wide, got {hidden}")


def _size(inputs: int, heads: int, hidden: list[int]) -> int:
    if heads == 0:
        return HEADER_SIZE
    weights = sum(a * b + b for a, b in pairwise([inputs, *hidden, 1]))
    return HEADER_SIZE + 2 * inputs + heads * weights


def _checksum(array: np.ndarray) -> int:
    header = array[:HEADER_SIZE].copy()
    header[[RISK_HEADER.checksum_high, RISK_HEADER.checksum_low]] = 0.0
    return zlib.crc32(array[HEADER_SIZE:].tobytes(), zlib.crc32(header.tobytes()))


MAX_SIZE = _size(MAX_INPUTS, MAX_HEADS, [MAX_WIDTH] * MAX_LAYERS)  # [values], of any packed critic
