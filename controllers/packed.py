"""Where each quantity sits in the chain's packed float64 arrays.

The chain works on four arrays: `params` (fixed), `state` (what a tick changes), `measurement`
(what the robot said) and `command_buffer` (what the host says of the newest request). One pointer
each goes into compiled code, and a state is copied, compared or recorded as one array.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from controllers.config import MAX_BOXES, STAGES, ControlConfig
from controllers.joint_limits import PANDA, JointLimits
from controllers.kinematics import TOOL

N = TypeVar("N", bound=tuple)


class ParamOffsets(NamedTuple):
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
    stages_on: int  # (9,) 1 for each stage of `config.STAGES` that is on, else 0
    period: int  # [ticks] of a policy period
    rotational_stiffness: int
    max_stretch: int
    max_rotational_stretch: int
    damping_ratio: int
    joint_damping: int
    posture_stiffness: int
    posture_damping: int
    posture_torque: int
    target_error_ratio: int
    max_speed: int
    max_rotation_speed: int
    max_tilt: int
    contact_speed: int
    contact_force_threshold: int
    contact_time: int
    reflex_stiffness: int
    reflex_damping_ratio: int
    reflex_retreat: int
    reflex_time: int
    reflex_ramp: int
    reflexes_before_stop: int
    reflex_window: int
    joint_margin: int
    joint_repulsion: int
    speed_share: int
    overspeed_damping: int
    torque_share: int
    torque_rate: int
    tank_start: int
    tank_max: int
    tank_min: int
    refill: int
    dissipation_credit: int
    human_energy_loan: int
    human_loan_window: int
    passivity_damping: int
    stale_periods: int
    heartbeat: int
    hold_time: int
    stop_time: int
    stop_stiffness: int
    recovery_time: int
    force_limit: int
    dt: int


class StateOffsets(NamedTuple):
    """Offsets into `state`."""

    tick: int
    mode: int  # Mode
    fault: int  # Fault
    authority: int  # Authority of the newest accepted request
    seq: int  # of the newest accepted request, -1 for none
    last_seq_seen: int  # seq of the newest request looked at
    request_age: int  # [ticks] since a request was accepted
    ticks_stale: int  # [ticks] since holding began for want of a request
    dropped: int  # requests refused since reset
    q: int  # (7,) measured at the last tick [rad]
    posture: int  # (7,) where the null space pulls [rad]
    torque: int  # (7,) sent at the last tick [N m]
    pose: int  # (7,) of the tool: position [m], quaternion xyzw
    twist: int  # (6,) of the tool [m/s, rad/s]
    start: int  # (7,) pose where the path to the request begins
    goal: int  # (7,) pose of the request
    commanded_gains: int  # (5,) of the request: stiffness x, y, z, rotational, damping ratio
    path_tick: int  # [ticks] along that path
    target: int  # (7,) pose of the virtual spring's end
    stiffness: int  # (4,) of the spring: x, y, z [N/m], rotational [N m/rad]
    damping_ratio: int  # [-]
    stiffness_scale: int  # [-] of the stiffness, in effect, 0..1
    tank: int  # [J]
    loaned_energy: int  # [J] that a person was lent and has not given back
    loan_in_window: int  # [J] lent within the window
    potential: int  # [J] of spring and barriers at the end of the last tick
    spring: int  # [J] of the spring alone
    passivity_balance: int  # [J] worst windowed energy balance so far, decaying with the refill
    work: int  # [J] delivered to the arm since reset
    damping: int  # (36,) symmetric, tool twist to wrench [N s/m, N s, N m s/rad], (6, 6) row-major
    damping_goal: int  # (36,) what the damping moves to
    jacobian_inverse: int  # (42,) dynamically consistent inverse of the Jacobian, (7, 6) row-major
    gripper: int  # target width [m]
    ticks_since_contact: int  # [ticks] since the last touch
    risk: int  # [-] of the newest tick, 0 without a critic
    risk_on: int  # [-] of the critic: risk that begins a reflex
    risk_off: int  # [-] of the critic: risk below which it may end
    reflex_active: int  # 1 while the reflex holds the stiffness down, else 0
    reflex_age: int  # [ticks] since the last reflex began
    reflexes_in_a_row: int  # each within the window of the one before
    retreat_pose: int  # (7,) pose that the reflex draws the target to
    stiffness_cap: int  # [N/m] of the stiffness while it comes back after a reflex
    force_bias: int  # (3,) force on the tool at rest, slowest follower [N]
    gated_ticks: int  # below: since the start of the period, as in Snapshot
    torque_limited_ticks: int
    target_limited_ticks: int
    energy_injected: int
    energy_refused: int
    force_peak: int
    force_square: int  # [N^2], sum
    speed_peak: int
    gate_sum: int  # [-]
    gate_low: int  # [-]
    tank_low: int  # [J]
    energy_out: int  # [J] given out in the period
    risk_peak: int  # [-]
    reflex_ticks: int
    ticks: int  # in the period
    gate: int  # [-] of the step, that the gate granted at the last tick


class StageSwitches(NamedTuple):
    """Offsets into `params` of the stages' switches, in the order of `config.STAGES`."""

    target_error: int
    box: int
    speed: int
    keep_out: int
    contact: int
    reflex: int
    energy: int
    torque: int
    passivity: int


class MeasurementOffsets(NamedTuple):
    """Offsets into `measurement`."""

    q: int  # (7,) measured [rad]
    dq: int  # (7,) measured [rad/s]
    applied_torque: int  # (7,) torque that acted since the last measurement [N m]
    commanded_torque: int  # (7,) torque that the robot holds until this one takes effect [N m]
    mass_matrix: int  # (49,) joint-space inertia [kg m^2]
    wrench: int  # (6,) of the environment on the tool, base frame [N, N m]
    elapsed: int  # [ticks] since the last measurement, 1 unless some were missed


class CommandOffsets(NamedTuple):
    """Offsets into `command_buffer`."""

    seq: int  # of the newest request; negative: none yet
    authority: int  # Authority, granted by the host
    pose: int  # (7,) target
    stiffness: int  # (4,) wanted: x, y, z [N/m], rotational [N m/rad]; 0 for the config's
    damping_ratio: int  # [-] wanted damping ratio; 0 for the config's
    gripper: int  # target width [m]
    heartbeat: int  # [s] age of the actor's heartbeat
    stop: int  # nonzero: the Fault for which to go to soft stop
    rearm: int  # nonzero: leave the soft stop


def _offsets(kind: type[N], **sizes: int) -> tuple[N, int]:
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    starts = np.cumsum([0] + [sizes.pop(name, 1) for name in names]).tolist()
    assert not sizes, sizes
    return kind(*starts[:-1]), starts[-1]


PARAM, PARAMS_SIZE = _offsets(
    ParamOffsets,
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
    stages_on=len(STAGES),
)
STATE, STATE_SIZE = _offsets(
    StateOffsets,
    q=7,
    posture=7,
    torque=7,
    pose=7,
    twist=6,
    start=7,
    goal=7,
    commanded_gains=5,
    retreat_pose=7,
    force_bias=3,
    target=7,
    stiffness=4,
    damping=36,
    damping_goal=36,
    jacobian_inverse=42,
)
MEAS, MEASUREMENT_SIZE = _offsets(
    MeasurementOffsets, q=7, dq=7, applied_torque=7, commanded_torque=7, mass_matrix=49, wrench=6
)
CMD, COMMAND_BUFFER_SIZE = _offsets(CommandOffsets, pose=7, stiffness=4)


STAGE = StageSwitches(*(PARAM.stages_on + i for i in range(len(STAGES))))

_OF_ARM = ("q_low", "q_high", "dq_max", "ddq_slowing", "dq_offset")  # as in `JointLimits`


def unpack_joint_limits(params: np.ndarray) -> JointLimits:
    """Return the arm's limits that the chain's parameters hold."""
    starts = [getattr(PARAM, name) for name in _OF_ARM]
    arrays = [params[start : start + 7].copy() for start in starts]
    return JointLimits(*arrays, repulsion=float(params[PARAM.joint_repulsion]))


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
    for name, start in PARAM._asdict().items():
        if name == "tool":
            value = tool
        elif name in of_arm:
            value = tuple(of_arm[name])
        elif name == "joint_repulsion":
            value = max(config.joint_repulsion, joints.repulsion)
        elif name == "period":
            value = max(1, round(1.0 / (control_hz * config.dt)))
        elif name == "keep_out":
            value = sum(config.keep_out, ())
        elif name == "boxes":
            value = len(config.keep_out)
        elif name == "stages_on":
            value = tuple(float(stage not in config.disabled_stages) for stage in STAGES)
        else:
            value = getattr(config, name)
        params[start : start + (len(value) if isinstance(value, tuple) else 1)] = value
    return params


def empty_command_buffer() -> np.ndarray:
    """Return a command buffer without a request."""
    command_buffer = np.zeros(COMMAND_BUFFER_SIZE)
    command_buffer[CMD.seq] = -1.0
    command_buffer[CMD.pose + 6] = 1.0
    return command_buffer
