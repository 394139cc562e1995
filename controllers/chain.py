"""One control tick, and the order of its stages.

    state check → energy tank, by the torque in effect → command, authority, staleness → path →
    target error → box, tilt → speed → keep-out → risk and reflex → gate on energy and torque →
    impedance → passivity observer → torque limits

The tank comes first, so that only what it holds is spent. The gate comes after the limits, which
only shrink a step, and holds every torque limit itself: a clip after it would break the account, so
the torque limits at the end should never act. Why in detail: docs/control.md.
"""

from __future__ import annotations

import numpy as np

from controllers.authority import decay_loan_window
from controllers.command import accept_command
from controllers.energy_gate import limit_step_by_energy
from controllers.energy_tank import update_tank
from controllers.force_bias import estimate_bias
from controllers.impedance import blend_damping, non_spring_torque, spring, update_task_inertia
from controllers.interpolate import pose_at
from controllers.kernel import kernel
from controllers.kinematics import READY, forward
from controllers.packed import MEAS, PARAM, STAGE, STATE, STATE_SIZE
from controllers.passivity_observer import add_passivity_damping
from controllers.risk import NUM_FEATURES, SCRATCH_SIZE, features, position_in_box, predict_risk
from controllers.robot import Fault, Mode
from controllers.safety_reflex import apply_reflex
from controllers.speed import detect_contact, target_speed_limit
from controllers.state_check import check_measurement
from controllers.target_limits import bound_target
from controllers.torque_limits import saturate_torque
from controllers.watchdog import soft_stop, update_mode
from handrail.risk_critic.format import RISK_HEADER, empty_critic

IDLE, HOLDING, FOLLOWING = int(Mode.IDLE), int(Mode.HOLDING), int(Mode.FOLLOWING)
HUMAN, SOFT_STOP, FAULT = int(Mode.HUMAN), int(Mode.SOFT_STOP), int(Mode.FAULT)
AUDIT, REFLEXES = int(Fault.ENERGY_AUDIT), int(Fault.REFLEXES)
INERTIA_UPDATE_TICKS = (
    8  # [ticks] between updates of damping and projector; the pose moves < 2 mm meanwhile
)
DAMPING_BLEND = 0.05  # [-], per tick, of the damping towards its goal
LONG_AGO = 1e9  # [ticks]
PERIOD_SUMS = (STATE.gated_ticks, STATE.gate)  # first and one past the last of the period's sums
NO_CRITIC = empty_critic()
NO_RECORD = np.zeros(0)


def initial_state(params: np.ndarray, q: np.ndarray = READY) -> np.ndarray:
    """Return the state of an arm at rest with a full tank, holding where it is.

    Args:
        params: Packed `ControlConfig`.
        q: Joint angles, shape (7,) [rad].
    """
    state = np.zeros(STATE_SIZE)
    state[STATE.mode] = HOLDING
    state[[STATE.seq, STATE.last_seq_seen, STATE.request_age, STATE.authority]] = -1.0
    state[[STATE.ticks_since_contact, STATE.reflex_age]] = LONG_AGO
    state[STATE.stiffness_cap] = params[PARAM.stiffness_range + 1]
    state[STATE.q : STATE.q + 7] = state[STATE.posture : STATE.posture + 7] = q
    forward(
        state[STATE.q : STATE.q + 7],
        params[PARAM.tool : PARAM.tool + 3],
        state[STATE.pose :],
        np.empty((6, 7)),
    )
    for at in (STATE.start, STATE.goal, STATE.target, STATE.retreat_pose):
        state[at : at + 7] = state[STATE.pose : STATE.pose + 7]
    for at in (STATE.commanded_gains, STATE.stiffness):
        state[at : at + 3] = params[PARAM.stiffness : PARAM.stiffness + 3]
        state[at + 3] = params[PARAM.rotational_stiffness]
    state[STATE.commanded_gains + 4] = state[STATE.damping_ratio] = params[PARAM.damping_ratio]
    state[STATE.path_tick] = params[PARAM.period]
    state[STATE.stiffness_scale] = 1.0
    state[STATE.tank] = params[PARAM.tank_start]
    begin_period(state)
    return state


def begin_period(state: np.ndarray) -> None:
    """Set the sums and peaks of a policy period to their beginning, in place."""
    state[PERIOD_SUMS[0] : PERIOD_SUMS[1]] = 0.0
    state[STATE.gate_low] = 1.0
    state[STATE.tank_low] = state[STATE.tank]


@kernel
def step(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the state after a tick and the torque to send; the old state stays valid.

    Args:
        params: Packed `ControlConfig`, see `packed.PARAM`.
        state: See `packed.STATE`.
        measurement: What the robot said, see `packed.MEAS`.
        command_buffer: What the host says, see `packed.CMD`.

    Returns:
        State (STATE_SIZE,) and torque (7,) [N m], gravity excluded.
    """
    after = state.copy()
    torque = np.empty(7)
    advance(params, after, measurement, command_buffer, NO_CRITIC, torque)
    return after, torque


@kernel
def advance(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
    critic: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Do what `step` does in place: `state` is changed, `torque` is written.

    Args:
        params: Packed `ControlConfig`, see `packed.PARAM`.
        state: See `packed.STATE`.
        measurement: What the robot said, see `packed.MEAS`.
        command_buffer: What the host says, see `packed.CMD`.
        critic: Packed risk critic that passed `check_critic`, float32; may be empty.
        torque: Out, shape (7,) [N m].
    """
    _tick(params, state, measurement, command_buffer, critic, NO_RECORD, torque)


@kernel
def replay_tick(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
    record: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Do what `advance` did once, with what the critic said then instead of the critic.

    Args:
        params: Packed `ControlConfig`, see `packed.PARAM`.
        state: See `packed.STATE`, changed in place.
        measurement: What the robot said, see `packed.MEAS`.
        command_buffer: What the host said, see `packed.CMD`.
        record: Risk and thresholds of that tick: `risk, risk_on, risk_off` of its state, (3,).
        torque: Out, shape (7,) [N m].
    """
    _tick(params, state, measurement, command_buffer, NO_CRITIC, record, torque)


@kernel
def _tick(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
    critic: np.ndarray,
    record: np.ndarray,
    torque: np.ndarray,
) -> None:
    fault = check_measurement(params, state, measurement)
    if fault != 0 and int(state[STATE.mode]) < FAULT:
        state[STATE.mode], state[STATE.fault] = FAULT, fault
    if int(state[STATE.mode]) >= FAULT or int(state[STATE.mode]) == IDLE:
        _damp_without_target(params, state, measurement, torque)
        return

    q = measurement[MEAS.q : MEAS.q + 7]
    jacobian = np.empty((6, 7))
    pose = state[STATE.pose : STATE.pose + 7]
    target = state[STATE.target : STATE.target + 7]
    _update_kinematics(params, state, measurement, jacobian)

    non_spring = np.empty(7)
    starved = params[STAGE.energy] != 0.0 and state[STATE.tank] < params[PARAM.tank_min]
    repulsion_energy = non_spring_torque(params, state, measurement, jacobian, starved, non_spring)
    stiffness_now = state[STATE.stiffness : STATE.stiffness + 4]
    spring_energy = state[STATE.stiffness_scale] * spring(
        params, stiffness_now, pose, target, np.empty(6)
    )
    if state[STATE.tick] == 0.0:
        state[STATE.potential] = spring_energy + repulsion_energy
    mode = int(state[STATE.mode])
    fresh = (mode in (FOLLOWING, HUMAN)) and state[STATE.ticks_stale] == 0.0
    healthy = update_tank(
        params, state, measurement, spring_energy + repulsion_energy, fresh or mode == HOLDING
    )
    if not healthy and params[STAGE.passivity] != 0.0 and mode != SOFT_STOP:
        soft_stop(params, state, AUDIT)
    decay_loan_window(params, state, measurement[MEAS.elapsed])

    accept_command(params, state, command_buffer)
    scale = update_mode(params, state, measurement, command_buffer)
    wanted, stiffness = np.empty(7), np.empty(4)
    _next_target(params, state, wanted, stiffness)
    if params[STAGE.reflex] != 0.0:
        if record.size > 0:
            for i in range(3):
                state[STATE.risk + i] = record[i]
        else:
            _update_risk(params, state, measurement, critic, wanted, stiffness)
        _run_reflex(params, state, measurement, wanted, stiffness)

    commanded = measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7]
    limit_step_by_energy(
        params, state, jacobian, non_spring, commanded, wanted, stiffness, scale, torque
    )
    if params[STAGE.passivity] != 0.0:
        add_passivity_damping(params, state, measurement, torque)
    if saturate_torque(torque, commanded, params[PARAM.torque_rate]):
        state[STATE.torque_limited_ticks] += 1.0

    state[STATE.potential] = state[STATE.spring] + repulsion_energy
    state[STATE.q : STATE.q + 7] = q
    state[STATE.torque : STATE.torque + 7] = torque
    _accumulate_stats(state, measurement)


@kernel
def _update_kinematics(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, jacobian: np.ndarray
) -> None:
    # pose, twist, and every few ticks what the arm's inertia is like there
    q = measurement[MEAS.q : MEAS.q + 7]
    forward(q, params[PARAM.tool : PARAM.tool + 3], state[STATE.pose : STATE.pose + 7], jacobian)
    for c in range(6):
        total = 0.0
        for i in range(7):
            total += jacobian[c, i] * measurement[MEAS.dq + i]
        state[STATE.twist + c] = total
    if int(state[STATE.tick]) % INERTIA_UPDATE_TICKS == 0:
        state[STATE.damping_ratio] = state[STATE.commanded_gains + 4]
        if state[STATE.reflex_active] != 0.0:
            state[STATE.damping_ratio] = max(
                state[STATE.damping_ratio], params[PARAM.reflex_damping_ratio]
            )
        update_task_inertia(params, state, measurement, jacobian)
    blend_damping(state, 1.0 if state[STATE.tick] == 0.0 else DAMPING_BLEND)
    detect_contact(params, state, measurement)
    estimate_bias(state, measurement)


@kernel
def _next_target(
    params: np.ndarray, state: np.ndarray, wanted: np.ndarray, stiffness: np.ndarray
) -> None:
    # where the path is now, within every limit of place and speed
    pose, target = state[STATE.pose : STATE.pose + 7], state[STATE.target : STATE.target + 7]
    if state[STATE.path_tick] < params[PARAM.period]:
        state[STATE.path_tick] += 1.0
    pose_at(
        state[STATE.start : STATE.start + 7],
        state[STATE.goal : STATE.goal + 7],
        state[STATE.path_tick] / params[PARAM.period],
        wanted,
    )
    for i in range(4):
        stiffness[i] = state[STATE.commanded_gains + i]
    if bound_target(params, pose, target, target_speed_limit(params, state), wanted):
        state[STATE.target_limited_ticks] += 1.0


@kernel
def _update_risk(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    critic: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> None:
    state[STATE.risk] = 0.0
    state[STATE.risk_on], state[STATE.risk_off] = (
        critic[RISK_HEADER.threshold_on],
        critic[RISK_HEADER.threshold_off],
    )
    if critic[RISK_HEADER.heads] == 0:
        return
    inputs, scratch = np.empty(NUM_FEATURES), np.empty(SCRATCH_SIZE, np.float32)
    pose, twist = state[STATE.pose : STATE.pose + 7], state[STATE.twist : STATE.twist + 6]
    wrench = measurement[MEAS.wrench : MEAS.wrench + 6]
    features(pose, twist, wrench, wanted, stiffness[:3], state[STATE.tank], inputs)
    low, high = (
        params[PARAM.box_low : PARAM.box_low + 3],
        params[PARAM.box_high : PARAM.box_high + 3],
    )
    position_in_box(pose, low, high, inputs)
    state[STATE.risk] = predict_risk(critic, inputs, scratch)


@kernel
def _run_reflex(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> None:
    state[STATE.risk_peak] = max(state[STATE.risk_peak], state[STATE.risk])
    on, off = state[STATE.risk_on], state[STATE.risk_off]
    latched = apply_reflex(params, state, measurement, on, off, wanted, stiffness)
    if latched and int(state[STATE.mode]) != SOFT_STOP:
        soft_stop(params, state, REFLEXES)


@kernel
def _damp_without_target(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, torque: np.ndarray
) -> None:
    # damp while the velocity can be read, else only ramp; never trust a held torque that is not
    # finite either
    commanded = np.empty(7)
    for i in range(7):
        dq = measurement[MEAS.dq + i]
        torque[i] = -4.0 * params[PARAM.joint_damping] * dq if np.isfinite(dq) else 0.0
        commanded[i] = measurement[MEAS.commanded_torque + i]
        if not np.isfinite(commanded[i]):
            commanded[i] = state[STATE.torque + i]
        if np.isfinite(measurement[MEAS.q + i]):
            state[STATE.q + i] = measurement[MEAS.q + i]
    saturate_torque(torque, commanded, params[PARAM.torque_rate])
    state[STATE.torque : STATE.torque + 7] = torque
    state[STATE.tick] += 1.0
    state[STATE.ticks] += 1.0


@kernel
def _accumulate_stats(state: np.ndarray, measurement: np.ndarray) -> None:
    force, speed = 0.0, 0.0
    for i in range(3):
        force += measurement[MEAS.wrench + i] * measurement[MEAS.wrench + i]
        speed += state[STATE.twist + i] * state[STATE.twist + i]
    state[STATE.force_square] += force
    state[STATE.force_peak] = max(state[STATE.force_peak], np.sqrt(force))
    state[STATE.speed_peak] = max(state[STATE.speed_peak], np.sqrt(speed))
    state[STATE.tank_low] = min(state[STATE.tank_low], state[STATE.tank])
    state[STATE.tick] += 1.0
    state[STATE.ticks] += 1.0
