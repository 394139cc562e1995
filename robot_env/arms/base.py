"""What every robot behind the chain shares: request in, snapshot out, and who keeps the time."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from controllers.kinematics import READY, inverse
from controllers.packed import CMD, MEAS, PARAM, STATE
from controllers.robot import Fault, Request, Snapshot
from handrail.errors import Error
from robot_env.recorder.ring_record import RingView


class Clock(Protocol):
    """What paces the real-time loop: the host's own timer, or the robot's 1 kHz states."""

    @property
    def late(self) -> int:
        """Ticks that were missed."""
        ...

    @property
    def woke(self) -> int:
        """When the last wait ended, on the monotonic clock [ns]."""
        ...

    @property
    def missed(self) -> int:
        """Ticks that were missed before the last wait ended."""
        ...

    def wait(self) -> int:
        """Sleep until the next tick is due and return how many are, at least 1."""
        ...

    def restart(self) -> None:
        """Begin again now, without counting what was missed."""
        ...


class ControlledArm(Protocol):
    """What host and real-time loop need of a robot; `MujocoRobot` and `FrankaRobot` are ones.

    Nothing here raises on the 1 kHz path: what went wrong is the snapshot's fault.
    """

    model: Any  # mujoco.MjModel of the scene
    data: Any  # mujoco.MjData: the simulation, or the measured joints for pictures
    heartbeat_age: float  # [s], of the actor; set by a host in real time
    late_ticks: int  # of the period so far; set by a host in real time
    critic: np.ndarray  # risk critic, packed; set by a host between ticks
    ring_view: RingView  # the flight recorder's ring; set by a host that has one

    @property
    def clock(self) -> Clock | None:
        """Clock of the robot, None where the host's own one paces it."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether `data` is the truth."""
        ...

    def warm_up(self) -> None:
        """Compile what a tick runs through, without moving a real arm."""
        ...

    def run(self, request: Request | None, ticks: int, begin: bool = True) -> Snapshot:
        """Control for some ticks; see `controllers.robot.Robot`."""
        ...

    def stop(self, fault: Fault = Fault.COMMANDED) -> None:
        """Go to soft stop from the next tick on.

        Args:
            fault: Why.
        """
        ...

    def rearm(self) -> None:
        """Leave the soft stop with the next tick."""
        ...

    def recover(self) -> None:
        """Leave a fault of the robot, because a person asked for it.

        Raises:
            Error: It can't be left; the message says what a person has to do.
        """
        ...

    def snapshot(self) -> Snapshot:
        """Return what the host says at the end of a period."""
        ...

    def close(self) -> None:
        """Bring the arm to rest and let go of it; safe to call twice."""
        ...


def put_request(command_buffer: np.ndarray, request: Request) -> None:
    """Write a request into the chain's command buffer.

    Args:
        command_buffer: See `packed.CMD`, changed in place.
        request: New target.
    """
    command_buffer[CMD.seq], command_buffer[CMD.authority] = request.seq, int(request.authority)
    command_buffer[CMD.pose : CMD.pose + 3] = request.position
    command_buffer[CMD.pose + 3 : CMD.pose + 7] = request.quaternion
    command_buffer[CMD.gripper] = request.gripper
    command_buffer[CMD.stiffness : CMD.stiffness + 4] = request.stiffness
    command_buffer[CMD.damping_ratio] = request.damping_ratio


def make_snapshot(s: np.ndarray, measurement: np.ndarray, dt: float) -> Snapshot:
    """Return what the chain's state says; what it doesn't know is the robot's to fill.

    Args:
        s: State of the chain, see `packed.STATE`.
        measurement: Of the last tick, see `packed.MEAS`.
        dt: Control period [s].
    """
    ticks = max(1.0, s[STATE.ticks])
    return Snapshot(
        time=s[STATE.tick] * dt,
        tick=int(s[STATE.tick]),
        mode=int(s[STATE.mode]),
        fault=int(s[STATE.fault]),
        request_seq=int(s[STATE.seq]),
        q=measurement[MEAS.q : MEAS.q + 7].copy(),
        dq=measurement[MEAS.dq : MEAS.dq + 7].copy(),
        position=s[STATE.pose : STATE.pose + 3].copy(),
        quaternion=s[STATE.pose + 3 : STATE.pose + 7].copy(),
        twist=s[STATE.twist : STATE.twist + 6].copy(),
        target_position=s[STATE.target : STATE.target + 3].copy(),
        target_quaternion=s[STATE.target + 3 : STATE.target + 7].copy(),
        wrench=measurement[MEAS.wrench : MEAS.wrench + 6].copy(),
        gripper_target=float(s[STATE.gripper]),
        stiffness=s[STATE.stiffness_scale] * s[STATE.stiffness : STATE.stiffness + 4],
        tank=float(s[STATE.tank]),
        tank_low=float(s[STATE.tank_low]),
        spring=float(s[STATE.spring]),
        gated_ticks=int(s[STATE.gated_ticks]),
        torque_limited_ticks=int(s[STATE.torque_limited_ticks]),
        target_limited_ticks=int(s[STATE.target_limited_ticks]),
        gate_mean=float(s[STATE.gate_sum] / ticks),
        gate_low=float(s[STATE.gate_low]),
        energy_injected=float(s[STATE.energy_injected]),
        energy_refused=float(s[STATE.energy_refused]),
        energy_out=float(s[STATE.energy_out]),
        risk_peak=float(s[STATE.risk_peak]),
        reflex_ticks=int(s[STATE.reflex_ticks]),
        force_peak=float(s[STATE.force_peak]),
        force_rms=math.sqrt(s[STATE.force_square] / ticks),
        speed_peak=float(s[STATE.speed_peak]),
        dropped_requests=int(s[STATE.dropped]),
    )


def reach_pose(
    params: np.ndarray, position: np.ndarray, quaternion: np.ndarray, q0: np.ndarray = READY
) -> np.ndarray:
    """Return joint angles (7,) [rad] that put the tool at a pose; for resets.

    Args:
        params: Packed `ControlConfig`, for the tool.
        position: Of the tool centre, base frame, shape (3,) [m].
        quaternion: xyzw, shape (4,).
        q0: Where to start and what to stay close to, shape (7,) [rad].

    Raises:
        Error: No joint angles within the limits reach the pose.
    """
    goal = np.concatenate([position, quaternion]).astype(np.float64)
    goal[3:] /= np.linalg.norm(goal[3:])
    tool, low, high = (
        params[at : at + n] for at, n in ((PARAM.tool, 3), (PARAM.q_low, 7), (PARAM.q_high, 7))
    )
    q = np.clip(np.array(q0, np.float64), low, high)
    left = inverse(q, tool, goal, np.array(q0, np.float64), low, high)
    if not (left < 1e-6 and ((q > low) & (q < high)).all()):
        raise Error(
            f"the arm can't reach position {np.round(position, 3)} m, quaternion (xyzw) "
            f"{np.round(quaternion, 3)}; {left:.3g} m + rad is left. Move the goal inside the "
            "workspace or start from other joint angles"
        )
    return q
