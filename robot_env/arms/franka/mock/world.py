"""The world behind the shipped mock of a Franka: physics, the control interface's cycles, faults.

The arm is that of `panda_mjcf.build_scene`. Each cycle is a millisecond: the robot publishes a
state, the client answers with a torque, the torque acts during the next cycle and is echoed in the
state after it. A cycle without an answer keeps the torque; twenty in a row stop the motion, as does
a torque that steps by more than 1 N m. `lose_states` and the other methods make things go wrong.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import math
from collections import deque

import mujoco
import numpy as np

from controllers.kinematics import READY
from handrail.errors import ConfigError
from robot_env.arms.franka.dynamics_model import HAND_IN_FLANGE, ArmDynamics, Payload
from robot_env.arms.panda_mjcf import bare_arm
from robot_env.arms.panda_models import ARMS, Arm
from robot_env.scheduling import PeriodicTimer

MOST_LOST = 20  # [cycles] without an answer, in a row, that stop the motion
STEP = 1.0 + 1e-6  # [N m] per cycle; a larger one stops the motion
_HOLD, _HOLD_DAMPING = 600.0, 60.0  # [N m/rad], [N m s/rad]: how the robot itself holds still
_SMOOTHING = math.exp(-0.001 / 0.008)  # of the wrench estimate, 8 ms
_HAND_MASS, _HAND_CENTRE = 0.73, np.array([-0.01, 0.0, 0.03])  # [kg], [m] in the hand's frame
_HAND_INERTIA = np.diag([0.001, 0.0025, 0.0017])  # [kg m^2]


class World:
    """A simulated arm as its own control box sees it."""

    def __init__(
        self, scene_xml: str, arm: str = "fr3", q: np.ndarray = READY, paced: bool = False
    ) -> None:
        """Compile the scene; the arm is held at `q`.

        Args:
            scene_xml: MJCF made by `panda.scene`.
            arm: Name of the model, one of `arms.ARMS`.
            q: Joint angles at the start, shape (7,) [rad].
            paced: A cycle takes a millisecond on the clock, and one for which the client comes too
                late is lost; else time passes as fast as the client asks.

        Raises:
            ConfigError: No such arm, or the scene doesn't compile.
        """
        if arm not in ARMS:
            raise ConfigError(f"the arm must be one of {', '.join(ARMS)}, got {arm!r}")
        try:
            self.model = mujoco.MjModel.from_xml_string(scene_xml)
        except ValueError as error:
            raise ConfigError(f"the task's scene is not valid MJCF: {error}") from None
        _become(self.model, ARMS[arm])
        self.data = mujoco.MjData(self.model)
        self.arm = ARMS[arm]
        self.inertia = ArmDynamics(self.arm)
        self.mode = "Idle"  # as in `RobotMode`
        self.errors: set[str] = set()  # current
        self.last_errors: set[str] = set()  # that ended the last motion
        self.motion = False  # torque control is running
        self.torque = np.zeros(7)  # in effect, without gravity [N m]
        self.ticks = 0  # [ms] of the robot's own clock
        self.commands = 0  # torques taken since the start
        self.largest_step = 0.0  # [N m], of the torques taken
        self.work = 0.0  # [J] done by the torques of clients, integrated in the physics
        self.load = Payload(0.0, np.zeros(3), np.zeros((3, 3)))  # as the client said
        self.hidden_mass = 0.0  # [kg] at the hand that nobody told the robot of
        self.push = np.zeros(6)  # on the hand from outside, base frame [N, N m]
        self.wrench = np.zeros(6)  # on the tool, filtered, base frame [N, N m]
        self._command: np.ndarray | None = None
        self._armed = False  # the client has answered once: from now on silence is loss
        self._lost = 0  # in a row
        self._success: deque[bool] = deque(maxlen=100)
        self._lose_states, self._lose_commands = 0, 0
        self._hand, self._tool = self.model.body("hand").id, self.model.site("tool").id
        address = int(self.model.sensor("tool_contact").adr[0])
        self._contact = self.data.sensordata[address : address + 9]
        self.grip = 0.04  # target of each finger [m]
        self._fingers = self.model.nu >= 9
        self.data.qpos[:7] = q
        if self._fingers:
            self.data.qpos[7:9] = self.grip
        self._held = np.array(q, np.float64)
        mujoco.mj_forward(self.model, self.data)
        self._timer = PeriodicTimer(1e-3) if paced else None

    # ---- what goes wrong on request

    def lose_states(self, count: int) -> None:
        """Keep the next states from the client, so that it can't answer them either."""
        self._lose_states = count

    def lose_commands(self, count: int) -> None:
        """Drop the client's next answers on their way."""
        self._lose_commands = count

    def press_stop(self) -> None:
        """Press the user stop."""
        self._end("UserStopped", "")

    def release_stop(self) -> None:
        """Release the user stop."""
        self.mode = "Idle"

    def guide(self, on: bool) -> None:
        """Press or release the guiding buttons."""
        if on:
            self._end("Guiding", "")
        else:
            self.mode = "Idle"

    def reflex(self, error: str = "cartesian_reflex") -> None:
        """Stop the motion as a collision does."""
        self._end("Reflex", error)

    # ---- what the library does

    @property
    def q(self) -> np.ndarray:
        """Joint angles, shape (7,) [rad]."""
        return self.data.qpos[:7]

    @property
    def dq(self) -> np.ndarray:
        """Joint velocities, shape (7,) [rad/s]."""
        return self.data.qvel[:7]

    @property
    def success_rate(self) -> float:
        """Share of the last 100 cycles that were answered, 0 without a motion [-]."""
        return sum(self._success) / len(self._success) if self.motion and self._success else 0.0

    @property
    def width(self) -> float:
        """Opening of the fingers [m]."""
        return float(self.data.qpos[7] + self.data.qpos[8]) if self._fingers else 0.0

    @property
    def hand_in_flange(self) -> np.ndarray:
        """Pose of the end effector in the flange's frame, 4 x 4, as the hand is configured."""
        frame = HAND_IN_FLANGE.copy()
        frame[2, 3] = self.model.site_pos[self._tool][2]
        return frame

    @property
    def hand(self) -> Payload:
        """The hand as the robot's own configuration knows it, in the flange's frame."""
        turn = self.hand_in_flange[:3, :3]
        return Payload(_HAND_MASS, turn @ _HAND_CENTRE, turn @ _HAND_INERTIA @ turn.T)

    def begin(self) -> None:
        """Begin torque control: the torque in effect is zero."""
        self.motion, self.mode, self._armed, self._lost = True, "Move", False, 0
        self.torque = np.zeros(7)
        self._command = None
        self._success.clear()
        self.last_errors = set()

    def end(self) -> None:
        """End torque control as the client wished; the robot holds itself."""
        self._end("Idle", "")

    def answer(self, torque: np.ndarray) -> None:
        """Take the client's answer to the newest state.

        Args:
            torque: Without gravity, shape (7,) [N m].
        """
        self._armed = True
        if self._lose_commands > 0:
            self._lose_commands -= 1
            return
        self._command = torque

    def cycle(self) -> int:
        """Run until the next state that reaches the client; return the cycles that took."""
        due = self._timer.wait() if self._timer is not None else 1
        cycles = due + self._lose_states
        self._lose_states = 0
        for _ in range(cycles):
            self._tick()
        return cycles

    def place_objects(self) -> None:
        """Put loose objects where the model says they begin."""
        first = 9 if self._fingers else 7
        self.data.qpos[first:] = self.model.qpos0[first:]
        self.data.qvel[first:] = 0.0

    def _tick(self) -> None:
        if self.motion:
            self._take()
        torque = self.torque if self.motion else self._hold_still()
        self.data.ctrl[:7] = torque
        if self._fingers:
            self.data.ctrl[7:9] = self.grip
        weight = self.hidden_mass * self.model.opt.gravity
        self.data.xfrc_applied[self._hand] = self.push
        self.data.xfrc_applied[self._hand, :3] += weight
        before = self.q.copy()
        mujoco.mj_step(self.model, self.data)
        if self.motion:
            self.work += float(torque @ (self.q - before))
        self.ticks += 1
        outside = self.push + self._contact_wrench()
        outside[:3] += weight
        self.wrench = _SMOOTHING * self.wrench + (1.0 - _SMOOTHING) * outside

    def _take(self) -> None:
        command, self._command = self._command, None
        if self._armed:
            self._success.append(command is not None)
        if command is None:
            self._lost += self._armed
            if self._lost >= MOST_LOST:
                self._end("Reflex", "communication_constraints_violation")
            return
        self._lost = 0
        step = float(np.abs(command - self.torque).max())
        self.largest_step = max(self.largest_step, step)
        if step > STEP:
            self._end("Reflex", "controller_torque_discontinuity")
            return
        self.torque = command
        self.commands += 1

    def _end(self, mode: str, error: str) -> None:
        if self.motion or error:
            self.last_errors = {error} if error else set()
        self.errors = {error} if error else set()
        self.mode, self.motion = mode, False
        self._held = self.q.copy()

    def _hold_still(self) -> np.ndarray:
        if self.mode == "Guiding":
            self._held = self.q.copy()
        return _HOLD * (self._held - self.q) - _HOLD_DAMPING * self.dq

    def _contact_wrench(self) -> np.ndarray:
        # the sensor gives what the hand does to the rest, at a point of its own
        force, torque, at = -self._contact[:3], -self._contact[3:6], self._contact[6:]
        if not force.any():
            return np.zeros(6)
        arm = at - self.data.site_xpos[self._tool]
        return np.concatenate([force, torque + np.cross(arm, force)])


def _become(model: mujoco.MjModel, arm: Arm) -> None:
    """Give a compiled scene an arm's inertias and joint ranges."""
    own = mujoco.MjModel.from_xml_string(bare_arm(arm))
    for i in range(1, 8):
        here, there = model.body(f"link{i}").id, own.body(f"link{i}").id
        for name in ("body_mass", "body_ipos", "body_inertia", "body_iquat"):
            getattr(model, name)[here] = getattr(own, name)[there]
    model.jnt_range[:7] = own.jnt_range[:7]
    mujoco.mj_setConst(model, mujoco.MjData(model))
