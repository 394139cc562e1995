"""Scripted pushes into whatever the scene has below the tool: data for the risk critic.

Each episode presses with its own stiffness, direction and speed, as deep as it likes, then lets go;
some press too hard and most don't, as with a policy that is still learning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.packed import PARAM
from controllers.robot import Request, Snapshot
from robot_env.host.core import HostCore
from robot_env.recorder.ring_record import newest_ticks

STEPS = 60  # [steps] of an episode
CONTACT = 4.0  # [N], |F| above it is contact
SOFTEST, STIFFEST = 600.0, 4000.0  # [N/m], of the tool


class Push(NamedTuple):
    """How to press, drawn once per push."""

    direction: np.ndarray  # (3,) unit vector, base frame
    approach: float  # [m/s], of the target before the first contact
    speed: float  # [m/s], after it
    depth: float  # [m], of the target beyond the first contact
    hold: int  # [steps], at that depth


def draw_push(rng: np.random.Generator) -> Push:
    """Return a push, mostly down: slow or fast, gentle or far too deep."""
    lean = rng.normal(0.0, 0.25, 2)
    direction = np.array([*lean, -1.0])
    return Push(
        direction / np.linalg.norm(direction),
        float(np.exp(rng.uniform(np.log(0.012), np.log(0.032)))),
        float(np.exp(rng.uniform(np.log(0.005), np.log(0.08)))),
        float(rng.uniform(0.0, 0.018)),
        int(rng.integers(0, 6)),
    )


def push_episode(core: HostCore, seed: int, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Run an episode of pushes and return every tick of it.

    Args:
        core: In lockstep, and its robot's ring remembers an episode; the stiffness in its packed
            parameters is set for this episode.
        seed: Everything random comes from it.
        steps: Policy periods.

    Returns:
        See `newest_ticks`; `stiffness` (T, 3) is the one that was asked for [N/m].
    """
    rng = np.random.default_rng([seed, 7])
    stiffness = np.exp(rng.uniform(np.log(SOFTEST), np.log(STIFFEST)))
    params = core.robot.params
    params[PARAM.stiffness : PARAM.stiffness + 3] = stiffness
    snapshot, _ = core.reset(seed)
    push, pressed, held = draw_push(rng), 0.0, 0
    seq = snapshot.request_seq
    retreat = 0
    for _ in range(steps):
        touching = float(np.linalg.norm(snapshot.wrench[:3])) > CONTACT
        if retreat:
            move, retreat = np.array([*rng.normal(0.0, 0.004, 2), 0.010]), retreat - 1
            if not retreat:
                push, pressed, held = draw_push(rng), 0.0, 0
        elif pressed >= push.depth:
            move, held = np.zeros(3), held + 1
            if held >= push.hold:
                retreat = int(rng.integers(1, 4))
        else:
            step = (push.speed if touching else push.approach) / core.task.spec.control_hz
            if touching:
                step = min(step, push.depth - pressed)
                pressed += step
            move = step * push.direction
        seq += 1
        snapshot = core.step(_request(snapshot, move, seq))
    ticks = newest_ticks(core.robot.ring_view, core.ticks * steps)
    asked = np.full((len(ticks["tick"]), 3), stiffness)
    return ticks | {"stiffness": asked}  # also where the chain has let go of it


def _request(snapshot: Snapshot, move: np.ndarray, seq: int) -> Request:
    position = snapshot.target_position + move
    return Request(seq, 0, position, snapshot.target_quaternion, snapshot.gripper_target)
