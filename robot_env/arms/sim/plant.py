"""The fused tick: physics, imperfect sensors, control chain, actuation delay, all compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.chain import advance
from controllers.kernel import kernel
from controllers.packed import MEAS, STATE
from robot_env.arms.sim.config import MAX_DELAY
from robot_env.arms.sim.energy_meter import add_wall_to_wrench, apply_external_force, measure_tick
from robot_env.arms.sim.libmujoco import mj_step1, mj_step2
from robot_env.recorder.ring_record import RingView, begin_tick, end_tick

NOISE = 4093  # length of the noise table; a prime, so that 13 values a tick never fall in step


class Plant(NamedTuple):
    """Offsets into the plant's packed array."""

    resolution: int  # [rad] of the encoders
    speed_noise: int  # [rad/s]
    force_noise: int  # [N]
    torque_noise: int  # [N m]
    smoothing: int  # [-] share of the old value in the wrench's low-pass filter
    delay: int  # [ticks]
    grip: int  # 1 if the fingers slide
    bias: int  # (6,) of the wrench [N, N m]
    filtered: int  # (6,) state of the low-pass filter [N, N m]
    acted: int  # (7,) torque in effect until now [N m]
    pipe: int  # (MAX_DELAY * 7,) commands on their way [N m]
    newest: int  # (7,) command that arrived last [N m]
    lossy: int  # standard normal value below which a command is lost
    burst: int  # [ticks] that a loss lasts
    losing: int  # [ticks] left of this loss
    echo_sent: int  # 1 if the arm claims that what was sent has acted
    payload: int  # (3,) weight on the hand that nobody compensates [N]
    ticks: int  # since reset


_sizes = dict.fromkeys(Plant._fields, 1) | {
    "bias": 6,
    "filtered": 6,
    "acted": 7,
    "pipe": 7 * MAX_DELAY,
    "newest": 7,
    "payload": 3,
}
_starts = np.cumsum([0, *_sizes.values()]).tolist()
PLANT = Plant(*_starts[:-1])
PLANT_SIZE = _starts[-1]


@kernel
def read_sensors(
    plant: np.ndarray,
    noise: np.ndarray,
    qpos: np.ndarray,
    qvel: np.ndarray,
    inertia: np.ndarray,
    inertia_at: np.ndarray,
    contact: np.ndarray,
    centre: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
) -> None:
    """Write what an arm of this quality would say of the simulated one.

    Args:
        plant: Packed, changed in place (the wrench's filter).
        noise: Standard normal values, shape (NOISE,).
        qpos: Of the simulation, arm first [rad].
        qvel: Of the simulation, arm first [rad/s].
        inertia: Non-zero entries of the joint-space inertia.
        inertia_at: Index into `inertia` of each of the arm's (7, 7) entries, -1 for zero.
        contact: Net contact on the hand's subtree: force, torque, position, shape (9,).
        centre: Of the hand's mass, where a payload that nobody knows of hangs, shape (3,) [m].
        state: Of the chain; its last tool position is the wrench's reference point.
        measurement: Out, see `packed.MEAS`.
    """
    at = int(plant[PLANT.ticks]) * 13 % NOISE
    step = plant[PLANT.resolution]
    for i in range(7):
        q = qpos[i]
        measurement[MEAS.q + i] = step * np.floor(q / step + 0.5) if step > 0.0 else q
        measurement[MEAS.dq + i] = qvel[i] + plant[PLANT.speed_noise] * noise[(at + i) % NOISE]
        measurement[MEAS.applied_torque + i] = plant[PLANT.acted + i]
        measurement[MEAS.commanded_torque + i] = plant[PLANT.newest + i]
        if plant[PLANT.echo_sent] != 0.0:
            measurement[MEAS.applied_torque + i] = measurement[MEAS.commanded_torque + i] = state[
                STATE.torque + i
            ]
    for k in range(49):
        index = inertia_at[k]
        measurement[MEAS.mass_matrix + k] = inertia[index] if index >= 0 else 0.0
    # the sensor gives what the hand does to the rest
    fx, fy, fz = -contact[0], -contact[1], -contact[2]
    rx, ry, rz = contact[6], contact[7], contact[8]
    if fx != 0.0 or fy != 0.0 or fz != 0.0:
        rx, ry, rz = rx - state[STATE.pose], ry - state[STATE.pose + 1], rz - state[STATE.pose + 2]
    wx, wy, wz = plant[PLANT.payload], plant[PLANT.payload + 1], plant[PLANT.payload + 2]
    px, py, pz = (
        centre[0] - state[STATE.pose],
        centre[1] - state[STATE.pose + 1],
        centre[2] - state[STATE.pose + 2],
    )
    raw = (
        fx + wx,
        fy + wy,
        fz + wz,
        -contact[3] + ry * fz - rz * fy + py * wz - pz * wy,
        -contact[4] + rz * fx - rx * fz + pz * wx - px * wz,
        -contact[5] + rx * fy - ry * fx + px * wy - py * wx,
    )
    keep = plant[PLANT.smoothing]
    for i in range(6):
        spread = plant[PLANT.force_noise] if i < 3 else plant[PLANT.torque_noise]
        value = raw[i] + plant[PLANT.bias + i] + spread * noise[(at + 7 + i) % NOISE]
        plant[PLANT.filtered + i] = keep * plant[PLANT.filtered + i] + (1.0 - keep) * value
        measurement[MEAS.wrench + i] = plant[PLANT.filtered + i]
    measurement[MEAS.elapsed] = 1.0


@kernel
def run_ticks(
    ticks: int,
    model: int,
    data: int,
    qpos: np.ndarray,
    qvel: np.ndarray,
    ctrl: np.ndarray,
    inertia: np.ndarray,
    inertia_at: np.ndarray,
    contact: np.ndarray,
    tool: np.ndarray,
    centre: np.ndarray,
    applied: np.ndarray,
    plant: np.ndarray,
    meter: np.ndarray,
    noise: np.ndarray,
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    command_buffer: np.ndarray,
    critic: np.ndarray,
    ring_view: RingView,
) -> None:
    """Run control ticks against the simulated arm.

    Args:
        ticks: How many [-].
        model: Address of the `mjModel`.
        data: Address of the `mjData`.
        qpos: View of the simulation's positions; likewise `qvel`, `ctrl`, `inertia`, `contact`.
        qvel: View of the simulation's velocities.
        ctrl: View of the simulation's controls: seven torques, then the fingers.
        inertia: View of the joint-space inertia's entries.
        inertia_at: See `read`.
        contact: View of the contact sensor, see `read`.
        tool: View of the true place of the tool centre, shape (3,) [m].
        centre: See `read`; a view.
        applied: View of force and torque on the hand, shape (6,) [N, N m].
        plant: Packed, see `Plant`.
        meter: See `robot_env.arms.sim.energy_meter`.
        noise: See `read`.
        params: Packed, see `packed.PARAM`.
        state: Of the chain, see `packed.STATE`.
        measurement: Scratch, see `packed.MEAS`.
        command_buffer: See `packed.CMD`.
        critic: Packed risk critic, see `advance`.
        ring_view: The flight recorder's ring.
    """
    torque, before, last = np.empty(7), np.empty(7), np.empty(7)
    payload = plant[PLANT.payload : PLANT.payload + 3]
    delay = int(plant[PLANT.delay])
    recording = ring_view.words.shape[0] > 0
    for _ in range(ticks):
        mj_step1(model, data)
        read_sensors(
            plant, noise, qpos, qvel, inertia, inertia_at, contact, centre, state, measurement
        )
        apply_external_force(meter, tool, centre, state[STATE.twist], payload, applied)
        add_wall_to_wrench(meter, measurement)
        if recording:
            begin_tick(ring_view, state)
        advance(params, state, measurement, command_buffer, critic, torque)
        if recording:
            end_tick(ring_view, state, measurement, command_buffer, torque)
        count = int(plant[PLANT.ticks])
        new = PLANT.pipe + 7 * (count % MAX_DELAY)
        old = PLANT.pipe + 7 * ((count - delay) % MAX_DELAY)
        if plant[PLANT.losing] > 0.0:
            plant[PLANT.losing] -= 1.0
        elif noise[(13 * count + 5) % NOISE] < plant[PLANT.lossy]:
            plant[PLANT.losing] = plant[PLANT.burst]
        for i in range(7):
            if plant[PLANT.losing] == 0.0:
                plant[PLANT.newest + i] = torque[i]
            plant[new + i] = plant[PLANT.newest + i]
            before[i], last[i] = qpos[i], plant[PLANT.acted + i]
        for i in range(7):
            ctrl[i] = plant[old + i]
            plant[PLANT.acted + i] = plant[old + i]
        if plant[PLANT.grip] != 0.0:
            ctrl[7] = ctrl[8] = 0.5 * state[STATE.gripper]
        mj_step2(model, data)
        measure_tick(meter, params, state, last, ctrl, before, qpos)
        plant[PLANT.ticks] += 1.0
