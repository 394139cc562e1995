"""How likely is a violation soon: the risk critic's inputs and its forward pass at control rate.

The critic is advisory. Whoever acts on it may only lower the controller's stiffness; the limits and
the energy tank hold whether it is right, wrong or absent.

Source:
    K. Srinivasan et al., "Learning to be Safe: Deep RL with a Safety Critic", 2020; B. Thananjeyan
    et al., "Recovery RL", 2021: risk of a state and action as a discounted probability. Bresa
    (arXiv 2503.21989) evaluates it at every control step on the low-level state and action.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import forward
from controllers.rotation import between
from handrail.risk_critic.format import (
    HEADER_SIZE,
    INPUT_CLIP,
    MAX_INPUTS,
    MAX_WIDTH,
    RISK_HEADER,
)

FEATURES = {  # name -> columns of the critic's input; free of the task's frame up to "place"
    "error": slice(0, 3),  # target minus tool, base frame [m]
    "rotation_error": slice(3, 6),  # rotation vector from tool to target, base frame [rad]
    "twist": slice(6, 12),  # of the tool, base frame [m/s, rad/s]
    "wrench": slice(12, 18),  # of the environment on the tool, base frame [N, N m]
    "stiffness": slice(18, 21),  # translational, in effect [N/m]
    "tank": slice(21, 22),  # energy left to spend [J]
    "place": slice(22, 25),  # optional: tool minus the middle of the config's box [m]
}
NUM_RELATIVE_FEATURES = FEATURES["tank"].stop  # [values], of the inputs that know no place
NUM_FEATURES = FEATURES["place"].stop  # [values], of all inputs
SCRATCH_SIZE = MAX_INPUTS + 2 * MAX_WIDTH  # [values], float32, that `predict_risk` needs to work in


@kernel
def features(
    pose: np.ndarray,
    twist: np.ndarray,
    wrench: np.ndarray,
    target: np.ndarray,
    stiffness: np.ndarray,
    tank: float,
    out: np.ndarray,
) -> None:
    """Write the first `NUM_RELATIVE_FEATURES` of the critic's inputs, see `FEATURES`.

    Args:
        pose: Of the tool, base frame, shape (7,): [m], xyzw.
        twist: Of the tool, base frame, shape (6,) [m/s, rad/s].
        wrench: Of the environment on the tool, base frame, shape (6,) [N, N m].
        target: Pose of the virtual spring's other end, shape (7,).
        stiffness: Translational, in effect, shape (3,) [N/m].
        tank: Energy left to spend [J].
        out: Shape (>= NUM_RELATIVE_FEATURES,).
    """
    phi = between(
        (pose[3], pose[4], pose[5], pose[6]), (target[3], target[4], target[5], target[6])
    )
    for i in range(3):
        out[i] = target[i] - pose[i]
        out[3 + i] = phi[i]
        out[18 + i] = stiffness[i]
    for i in range(6):
        out[6 + i] = twist[i]
        out[12 + i] = wrench[i]
    out[21] = tank


@kernel
def position_in_box(
    pose: np.ndarray, box_low: np.ndarray, box_high: np.ndarray, out: np.ndarray
) -> None:
    """Write where the tool is in the config's box, for a critic that knows its place.

    Args:
        pose: Of the tool, base frame, shape (7,): [m], xyzw.
        box_low: `ControlConfig.box_low`, shape (3,) [m].
        box_high: `ControlConfig.box_high`, shape (3,) [m].
        out: Shape (NUM_FEATURES,); the last three are written.
    """
    for i in range(3):
        out[22 + i] = pose[i] - 0.5 * (box_low[i] + box_high[i])


@kernel
def features_of_recording(
    q: np.ndarray,
    dq: np.ndarray,
    wrench: np.ndarray,
    target: np.ndarray,
    stiffness: np.ndarray,
    tank: np.ndarray,
    tool: np.ndarray,
    box_low: np.ndarray,
    box_high: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the critic's inputs of every tick of a recording, from its joints as the chain does.

    Args:
        q: Measured joint angles, shape (T, 7) [rad].
        dq: Measured joint velocities, shape (T, 7) [rad/s].
        wrench: Of the environment on the tool, base frame, shape (T, 6) [N, N m].
        target: Pose of the virtual spring's other end, shape (T, 7).
        stiffness: Translational, in effect, shape (T, 3) [N/m].
        tank: Energy left to spend, shape (T,) [J].
        tool: Tool centre in the hand's frame, shape (3,) [m].
        box_low: `ControlConfig.box_low`, shape (3,) [m].
        box_high: `ControlConfig.box_high`, shape (3,) [m].
        out: Shape (T, NUM_FEATURES).
    """
    pose, jacobian, twist = np.empty(7), np.empty((6, 7)), np.empty(6)
    for t in range(len(tank)):
        forward(q[t], tool, pose, jacobian)
        for c in range(6):
            twist[c] = 0.0
            for i in range(7):
                twist[c] += jacobian[c, i] * dq[t, i]
        features(pose, twist, wrench[t], target[t], stiffness[t], tank[t], out[t])
        position_in_box(pose, box_low, box_high, out[t])


@kernel
def predict_risk(weights: np.ndarray, inputs: np.ndarray, scratch: np.ndarray) -> float:
    """Return the discounted probability of a violation, by the most pessimistic head, 0..1.

    Nothing is allocated and the time doesn't depend on the values. An input that is not finite is
    as risky as can be.

    Args:
        weights: Packed critic that passed `check_critic`, float32; an empty one gives 0.
        inputs: From `features`, shape (>= the critic's inputs,).
        scratch: Shape (SCRATCH_SIZE,) float32, overwritten.
    """
    heads = int(weights[RISK_HEADER.heads])
    if heads == 0:
        return 0.0
    count, layers = int(weights[RISK_HEADER.inputs]), int(weights[RISK_HEADER.layers])
    for i in range(count):
        x = (np.float32(inputs[i]) - weights[HEADER_SIZE + i]) * weights[HEADER_SIZE + count + i]
        if not math.isfinite(x):
            return 1.0
        scratch[i] = min(max(x, np.float32(-INPUT_CLIP)), np.float32(INPUT_CLIP))
    at = HEADER_SIZE + 2 * count
    worst = -np.inf
    for _ in range(heads):
        x, n = scratch[:count], count
        for layer in range(layers):
            m = int(weights[RISK_HEADER.widths + layer])
            start = MAX_INPUTS + MAX_WIDTH * (layer % 2)
            y = scratch[start : start + m]
            _dense(weights[at : at + n * m], weights[at + n * m : at + n * m + m], x, y)
            at += n * m + m
            x, n = y, m
        logit = weights[at + n]
        for i in range(n):
            logit += x[i] * weights[at + i]
        at += n + 1
        worst = max(worst, float(logit))
    return 1.0 / (1.0 + math.exp(-worst))


@kernel
def _dense(rows: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Write a layer's output; four inputs a turn, so that the outputs are loaded less often."""
    n, m = x.size, y.size
    for j in range(m):
        y[j] = bias[j]
    whole = n - n % 4
    for i in range(0, whole, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        p, q = rows[i * m : i * m + m], rows[i * m + m : i * m + 2 * m]
        r, s = rows[i * m + 2 * m : i * m + 3 * m], rows[i * m + 3 * m : i * m + 4 * m]
        for j in range(m):
            y[j] += a * p[j] + b * q[j] + c * r[j] + d * s[j]
    for i in range(whole, n):
        a, p = x[i], rows[i * m : i * m + m]
        for j in range(m):
            y[j] += a * p[j]
    for j in range(m):
        y[j] = max(y[j], np.float32(0.0))
