"""Where each quantity sits in the chain's packed float64 arrays.

The chain works on four arrays: `params` (fixed), `state` (what a tick changes), `reading` (what
the robot said) and `mailbox` (what the host says of the newest request). One pointer each goes into
compiled code, and a state is copied, compared or recorded as one array.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from controllers.config import MAX_BOXES, STAGES, ControlConfig
from controllers.joint_limits import PANDA, JointLimits
from controllers.kinematics import TOOL

N = TypeVar("N", bound=tuple)


class Params(NamedTuple):
    """Offsets into `params`; meaning and units as in `ControlConfig`, unless one is given."""

    stiffness: int
    box_low: int
    box_high: int
    contact_low: int
    contact_high: int
    stiffness_range: int
    rotational_stiffness_range: int
    damping_ratio_range: int
    keep_out: int  # (8 * 6,) boxes
    tool: int  # tool centre in the hand's frame [m]
    q_low: int  # (7,) of the arm, as the next four: see `JointLimits` [rad]
    q_high: int  # (7,) [rad]
    dq_max: int  # (7,) [rad/s]
    ddq_slowing: int  # (7,) [rad/s^2]
    dq_offset: int  # (7,) [rad/s]
    boxes: int  # how many boxes there are
    on: int  # (9,) 1 for each stage of `config.STAGES` that is on, else 0
    period: int  # [ticks] of a policy period
    rotational_stiffness: int
    clip: int
    rotational_clip: int
    damping_ratio: int
    joint_damping: int
    posture_stiffness: int
    posture_damping: int
    posture_torque: int
    leash: int
    max_speed: int
    max_rotation_speed: int
    cone: int
    contact_speed: int
    contact_force: int
    contact_time: int
    reflex_stiffness: int
    reflex_damping_ratio: int
    reflex_retreat: int
    reflex_time: int
    reflex_ramp: int
    reflex_latch: int
    reflex_window: int
    joint_margin: int
    joint_barrier: int
    speed_share: int
    speed_braking: int
    torque_share: int
    torque_rate: int
    tank_start: int
    tank_max: int
    tank_min: int
    refill: int
    harvest: int
    human_credit: int
    human_window: int
    observer_damping: int
    stale_periods: int
    heartbeat: int
    hold_time: int
    stop_time: int
    stop_stiffness: int
    recovery_time: int
    force_limit: int
    dt: int


class State(NamedTuple):
    """Offsets into `state`."""

    tick: int
    mode: int  # Mode
    fault: int  # Fault
    source: int  # Source of the newest accepted request
    seq: int  # of the newest accepted request, -1 for none
    seen: int  # seq of the newest request looked at
    age: int  # [ticks] since a request was accepted
    stale: int  # [ticks] since holding began for want of a request
    dropped: int  # requests refused since reset
    q: int  # (7,) measured at the last tick [rad]
    posture: int  # (7,) where the null space pulls [rad]
    torque: int  # (7,) sent at the last tick [N m]
    pose: int  # (7,) of the tool: position [m], quaternion xyzw
    twist: int  # (6,) of the tool [m/s, rad/s]
    start: int  # (7,) pose where the path to the request begins
    goal: int  # (7,) pose of the request
    asked: int  # (5,) of the request: stiffness x, y, z, rotational, damping ratio
    progress: int  # [ticks] along that path
    target: int  # (7,) pose of the virtual spring's end
    stiffness: int  # (4,) of the spring: x, y, z [N/m], rotational [N m/rad]
    ratio: int  # [-] damping ratio
    share: int  # [-] of the stiffness in effect, 0..1
    tank: int  # [J]
    lent: int  # [J] that a person was lent and has not given back
    credit: int  # [J] lent within the window
    potential: int  # [J] of spring and barriers at the end of the last tick
    spring: int  # [J] of the spring alone
    audit: int  # [J] worst windowed energy balance so far, decaying with the refill
    work: int  # [J] delivered to the arm since reset
    damping: int  # (36,) symmetric, tool twist to wrench [N s/m, N s, N m s/rad], (6, 6) row-major
    damping_goal: int  # (36,) what the damping moves to
    projector: int  # (42,) dynamically consistent inverse of the Jacobian, (7, 6) row-major
    gripper: int  # target width [m]
    touched: int  # [ticks] since the last touch
    risk: int  # [-] of the newest tick, 0 without a critic
    risk_on: int  # [-] of the critic: risk that begins a reflex
    risk_off: int  # [-] of the critic: risk below which it may end
    reflex: int  # 1 while the reflex holds authority down, else 0
    reflex_age: int  # [ticks] since the last reflex began
    reflexes: int  # in a row, each within the window of the one before
    refuge: int  # (7,) pose that the reflex draws the target to
    ceiling: int  # [N/m] of the stiffness while it comes back after a reflex
    bias: int  # (3,) force on the tool at rest, slowest follower [N]
    gated: int  # below: since the start of the period, as in Snapshot
    clipped: int
    leashed: int
    injected: int
    refused: int
    force_peak: int
    force_square: int  # [N^2], sum
    speed_peak: int
    gate_sum: int  # [-]
    gate_low: int  # [-]
    tank_low: int  # [J]
    work_sum: int  # [J] given out in the period
    risk_peak: int  # [-]
    reflex_ticks: int
    ticks: int  # in the period
    gate: int  # [-] share of the step that the gate granted at the last tick


class On(NamedTuple):
    """Offsets into `params` of the stages' switches, in the order of `config.STAGES`."""

    leash: int
    box: int
    speed: int
    keep_out: int
    contact: int
    reflex: int
    energy: int
    torque: int
    observer: int


class Reading(NamedTuple):
    """Offsets into `reading`."""

    q: int  # (7,) measured [rad]
    dq: int  # (7,) measured [rad/s]
    acted: int  # (7,) torque that acted since the last reading [N m]
    held: int  # (7,) torque that the robot holds until this command takes effect [N m]
    mass: int  # (49,) joint-space inertia [kg m^2]
    wrench: int  # (6,) of the environment on the tool, base frame [N, N m]
    elapsed: int  # [ticks] since the last reading, 1 unless some were missed


class Mailbox(NamedTuple):
    """Offsets into `mailbox`."""

    seq: int  # of the newest request; negative: none yet
    source: int  # Source, granted by the host
    pose: int  # (7,) target
    stiffness: int  # (4,) wanted: x, y, z [N/m], rotational [N m/rad]; 0 for the config's
    ratio: int  # [-] wanted damping ratio; 0 for the config's
    gripper: int  # target width [m]
    heartbeat: int  # [s] age of the actor's heartbeat
    stop: int  # nonzero: the Fault for which to go to soft stop
    rearm: int  # nonzero: leave the soft stop


def _offsets(kind: type[N], **sizes: int) -> tuple[N, int]:
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    starts = np.cumsum([0] + [sizes.pop(name, 1) for name in names]).tolist()
    assert not sizes, sizes
    return kind(*starts[:-1]), starts[-1]


P, PARAMS_SIZE = _offsets(
    Params,
    stiffness=3,
    box_low=3,
    box_high=3,
    contact_low=3,
    contact_high=3,
    stiffness_range=2,
    rotational_stiffness_range=2,
    damping_ratio_range=2,
    keep_out=6 * MAX_BOXES,
    tool=3,
    q_low=7,
    q_high=7,
    dq_max=7,
    ddq_slowing=7,
    dq_offset=7,
    on=len(STAGES),
)
S, STATE_SIZE = _offsets(
    State,
    q=7,
    posture=7,
    torque=7,
    pose=7,
    twist=6,
    start=7,
    goal=7,
    asked=5,
    refuge=7,
    bias=3,
    target=7,
    stiffness=4,
    damping=36,
    damping_goal=36,
    projector=42,
)
R, READING_SIZE = _offsets(Reading, q=7, dq=7, acted=7, held=7, mass=49, wrench=6)
M, MAILBOX_SIZE = _offsets(Mailbox, pose=7, stiffness=4)


ON = On(*(P.on + i for i in range(len(STAGES))))

_OF_ARM = ("q_low", "q_high", "dq_max", "ddq_slowing", "dq_offset")  # as in `JointLimits`


def joint_limits(params: np.ndarray) -> JointLimits:
    """Return the arm's limits that the chain's parameters hold."""
    starts = [getattr(P, name) for name in _OF_ARM]
    arrays = [params[start : start + 7].copy() for start in starts]
    return JointLimits(*arrays, barrier=float(params[P.joint_barrier]))


def pack_params(
    config: ControlConfig,
    control_hz: float,
    tool: tuple[float, float, float] = TOOL,
    joints: JointLimits = PANDA,
) -> np.ndarray:
    """Return the chain's fixed parameters, shape (PARAMS_SIZE,).

    Args:
        config: Table [control].
        control_hz: Policy steps per second [Hz].
        tool: Tool centre in the hand's frame [m].
        joints: Limits of the arm's model.
    """
    of_arm = dict(zip(_OF_ARM, joints[:5], strict=True))
    params = np.zeros(PARAMS_SIZE)
    for name, start in P._asdict().items():
        if name == "tool":
            value = tool
        elif name in of_arm:
            value = tuple(of_arm[name])
        elif name == "joint_barrier":
            value = max(config.joint_barrier, joints.barrier)
        elif name == "period":
            value = max(1, round(1.0 / (control_hz * config.dt)))
        elif name == "keep_out":
            value = sum(config.keep_out, ())
        elif name == "boxes":
            value = len(config.keep_out)
        elif name == "on":
            value = tuple(float(stage not in config.off) for stage in STAGES)
        else:
            value = getattr(config, name)
        params[start : start + (len(value) if isinstance(value, tuple) else 1)] = value
    return params


def empty_mailbox() -> np.ndarray:
    """Return a mailbox without a request."""
    mailbox = np.zeros(MAILBOX_SIZE)
    mailbox[M.seq] = -1.0
    mailbox[M.pose + 6] = 1.0
    return mailbox
