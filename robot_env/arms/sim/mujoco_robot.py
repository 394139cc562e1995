"""The simulated arm: MuJoCo's physics behind the control chain, imperfect on purpose."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import math
import time
from statistics import NormalDist

import mujoco
import numpy as np

from controllers.chain import begin_period, initial_state
from controllers.config import ControlConfig
from controllers.kinematics import READY
from controllers.packed import (
    CMD,
    MEAS,
    MEASUREMENT_SIZE,
    PARAM,
    STATE,
    empty_command_buffer,
    pack_params,
)
from controllers.robot import Fault, Request, Snapshot
from handrail.errors import ConfigError, ProtocolMismatch
from handrail.risk_critic.format import empty_critic
from robot_env.arms.base import Clock, make_snapshot, put_request, reach_pose
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.energy_meter import METER, METER_SIZE, reset_meter
from robot_env.arms.sim.plant import (
    NOISE,
    PLANT,
    PLANT_SIZE,
    run_ticks,
)
from robot_env.recorder.ring_record import memory_ring_view


class MujocoRobot:
    """A Panda-class arm in a MuJoCo scene, controlled at 1 kHz.

    Owns model and data. A task may move its own bodies in `model` and `data` after `reset` and
    before the next `run`.
    """

    clock: Clock | None = None  # the host's own paces it
    simulated = True

    def __init__(
        self, scene_xml: str, config: MujocoConfig, control: ControlConfig, control_hz: float
    ) -> None:
        """Compile the scene.

        Args:
            scene_xml: MJCF made by `panda.scene`.
            config: Table [robot].
            control: Table [control].
            control_hz: Policy steps per second [Hz].

        Raises:
            ConfigError: The scene doesn't compile, isn't made by `panda.scene`, or its timestep
                isn't the control period.
        """
        try:
            self.model = mujoco.MjModel.from_xml_string(scene_xml)
        except ValueError as error:
            raise ConfigError(f"the task's scene is not valid MJCF: {error}") from None
        self.config, self.control, self.control_hz = config, control, control_hz
        if abs(self.model.opt.timestep - control.dt) > 1e-12:
            raise ConfigError(
                f"the scene's timestep must be control.dt = {control.dt} s, "
                f"got {self.model.opt.timestep} s"
            )
        self.data = mujoco.MjData(self.model)
        names = [mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_JOINT, i) for i in range(7)]
        if names != [f"joint{i + 1}" for i in range(7)] or self.model.nsensor < 1:
            raise ConfigError(f"the scene's first joints must be the arm's, got {names}")
        self.has_gripper = self.model.nu >= 9
        self._hand = self.model.body("hand").id
        self.tool = tuple(float(v) for v in self.model.site("tool").pos)
        self.params = pack_params(control, control_hz, self.tool)  # type: ignore[arg-type]
        self.period = int(self.params[PARAM.period])  # [ticks] of a policy period
        self.episode = 0
        self.heartbeat_age = 0.0  # [s], of the actor; set by a host in real time
        self.late_ticks = 0  # of the period so far; set by a host in real time
        self.critic = empty_critic()  # risk critic, packed; a host may set another between runs
        self.ring_view = memory_ring_view(0)  # the flight recorder's; a host may set one
        self._plant = np.zeros(PLANT_SIZE)
        self._measurement = np.zeros(MEASUREMENT_SIZE)
        self._command_buffer = empty_command_buffer()
        self._noise = np.zeros(NOISE)
        self._inertia_at = _inertia_index(self.model, self.data)
        address = int(self.model.sensor("tool_contact").adr[0])
        self._contact = self.data.sensordata[address : address + 9]
        self._tool = self.data.site_xpos[self.model.site("tool").id]
        self._centre = self.data.xipos[self._hand]
        self._applied = self.data.xfrc_applied[self._hand]
        self.meter = np.zeros(METER_SIZE)  # see `robot_env.arms.sim.energy_meter`
        self.meter[METER.wall] = math.nan
        self._run_s, self._run_count = 0.0, 0  # [s, ticks] of the period so far
        self.state = initial_state(self.params)
        self.reset(READY, 0.04, np.random.default_rng(0))
        self.hold_then_begin(1)  # compiles, or loads what was compiled, before anything is timed
        self.reset(READY, 0.04, np.random.default_rng(0))
        self.episode = 0

    def reset(
        self, q: np.ndarray, gripper_width: float, rng: np.random.Generator, grasp: bool = False
    ) -> Snapshot:
        """Put the arm at rest, draw its imperfections, fill the tank, hold.

        Args:
            q: Joint angles, shape (7,) [rad].
            gripper_width: Opening of the fingers [m].
            rng: Source of friction, damping, payload, bias and noise; the same state gives the
                same episode.
            grasp: Close the fingers on what the task puts between them (`settle` runs it).

        Returns:
            The first snapshot of the episode, in mode HOLDING.
        """
        c, model, data = self.config, self.model, self.data
        mujoco.mj_resetData(model, data)
        data.qpos[:7] = q
        if self.has_gripper:
            data.qpos[7:9] = 0.5 * gripper_width
        model.dof_frictionloss[:7] = rng.uniform(*c.friction, 7)
        model.dof_damping[:7] = rng.uniform(*c.damping, 7)
        weight = rng.uniform(*c.payload_error) * model.opt.gravity
        data.xfrc_applied[self._hand, :3] = weight
        plant = self._plant
        plant[:] = 0.0
        plant[PLANT.payload : PLANT.payload + 3] = weight
        reset_meter(self.meter)
        plant[PLANT.resolution], plant[PLANT.speed_noise] = c.encoder_resolution, c.speed_noise
        plant[PLANT.force_noise], plant[PLANT.torque_noise] = c.force_noise, c.torque_noise
        plant[PLANT.smoothing] = (
            math.exp(-self.control.dt / c.wrench_filter) if c.wrench_filter else 0
        )
        plant[PLANT.delay], plant[PLANT.grip] = c.delay, float(self.has_gripper)
        plant[PLANT.lossy] = NormalDist().inv_cdf(c.loss) if c.loss else -math.inf
        plant[PLANT.burst], plant[PLANT.echo_sent] = c.loss_ticks, float(c.echo == "sent")
        plant[PLANT.bias : PLANT.bias + 3] = rng.uniform(*c.force_bias, 3)
        plant[PLANT.bias + 3 : PLANT.bias + 6] = rng.uniform(*c.torque_bias, 3)
        plant[PLANT.filtered : PLANT.filtered + 6] = plant[PLANT.bias : PLANT.bias + 6]
        plant[PLANT.filtered : PLANT.filtered + 3] += weight
        self._noise[:] = rng.standard_normal(NOISE)
        self.episode += 1
        self._anchor(0.0 if grasp else gripper_width, plant[PLANT.filtered : PLANT.filtered + 3])
        mujoco.mj_forward(model, data)
        return self.snapshot()

    def hold_then_begin(self, ticks: int) -> Snapshot:
        """Hold for some ticks, then begin the episode from there with a full tank.

        For resets: lets objects come to rest and the fingers close.

        Args:
            ticks: Control ticks to run [-].
        """
        self._run(ticks)
        self._anchor(self.state[STATE.gripper], self.state[STATE.force_bias : STATE.force_bias + 3])
        return self.snapshot()

    def run(self, request: Request | None, ticks: int, begin: bool = True) -> Snapshot:
        """Control for some ticks; see `controllers.robot.Robot`."""
        if request is not None:
            put_request(self._command_buffer, request)
        self._command_buffer[CMD.heartbeat] = self.heartbeat_age
        if begin:
            self._begin_period()
        self._run(ticks)
        self._command_buffer[CMD.rearm] = 0.0
        return self.snapshot()

    def stop(self, fault: Fault = Fault.COMMANDED) -> None:
        """Go to soft stop from the next tick on; see `controllers.robot.Robot`."""
        self._command_buffer[CMD.stop] = float(fault)

    def rearm(self) -> None:
        """Leave the soft stop with the next tick, holding until a fresh request comes."""
        self._command_buffer[CMD.stop], self._command_buffer[CMD.rearm] = 0.0, 1.0

    def recover(self) -> None:
        """Raise an error: a simulated arm leaves its faults with a reset.

        Raises:
            ProtocolMismatch: Always.
        """
        raise ProtocolMismatch("a simulated arm has nothing to recover from; reset it instead")

    def warm_up(self) -> None:
        """Do nothing: building the robot has compiled its tick."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def snapshot(self) -> Snapshot:
        """Return what the host says after a period; `privileged_state` is the task's to fill."""
        snapshot = make_snapshot(self.state, self._measurement, self.control.dt)
        snapshot.episode = self.episode
        if self.has_gripper:
            snapshot.gripper_width = float(self.data.qpos[7] + self.data.qpos[8])
        snapshot.tick_us = self._run_s * 1e6 / max(1, self._run_count)
        snapshot.late_ticks = self.late_ticks
        return snapshot

    def inverse_kinematics(
        self, position: np.ndarray, quaternion: np.ndarray, q0: np.ndarray = READY
    ) -> np.ndarray:
        """Return joint angles (7,) [rad] that put the tool at a pose; for resets.

        Args:
            position: Of the tool centre, base frame, shape (3,) [m].
            quaternion: xyzw, shape (4,).
            q0: Where to start and what to stay close to, shape (7,) [rad].

        Raises:
            Error: No joint angles within the limits reach the pose.
        """
        return reach_pose(self.params, position, quaternion, q0)

    @property
    def work(self) -> float:
        """Work of the torques that acted on the arm since reset, from its true motion [J]."""
        return float(self.meter[METER.work])

    @property
    def energy_used(self) -> float:
        """Largest share of the allowed energy that any window since reset has taken [-].

        Measured / allowed. What the springs held at its beginning, the refill and what people were
        lent are free, and the ticks that a command needs or loses can't be billed.
        """
        return float(self.meter[METER.excess] / self._allowed)

    @property
    def energy_active(self) -> float:
        """As `energy_used`, counting what the springs hold at the window's end as taken [-].

        A stretched spring is energy that whoever stretched it can have out at any time: above 1, a
        tank of this size would have been empty.
        """
        return float(self.meter[METER.active] / self._allowed)

    @property
    def _allowed(self) -> float:
        control, meter = self.control, self.meter
        unbilled = (1.0 + self.config.delay + self.config.loss_ticks) * meter[METER.stroke]
        return control.tank_max - control.tank_min + unbilled

    def _begin_period(self) -> None:
        begin_period(self.state)
        self._run_s, self._run_count = 0.0, 0

    def _anchor(self, gripper: float, bias: np.ndarray) -> None:
        self.state = initial_state(self.params, self.data.qpos[:7].copy())
        self.state[STATE.gripper] = gripper
        self.state[STATE.force_bias : STATE.force_bias + 3] = (
            bias  # at rest, with nothing in the way
        )
        if self._plant[PLANT.ticks] > 0.0:  # go on from the torque in effect, not from zero
            self.state[STATE.torque : STATE.torque + 7] = self._plant[
                PLANT.newest : PLANT.newest + 7
            ]
        self._run_s, self._run_count = 0.0, 0
        self._command_buffer[:] = empty_command_buffer()
        measurement = self._measurement
        measurement[MEAS.q : MEAS.q + 7], measurement[MEAS.dq : MEAS.dq + 7] = (
            self.data.qpos[:7],
            self.data.qvel[:7],
        )
        measurement[MEAS.wrench : MEAS.wrench + 6] = self._plant[
            PLANT.filtered : PLANT.filtered + 6
        ]

    def _run(self, ticks: int) -> None:
        data = self.data
        start = time.perf_counter()
        run_ticks(
            ticks,
            self.model._address,  # type: ignore[attr-defined]
            data._address,  # type: ignore[attr-defined]
            data.qpos,
            data.qvel,
            data.ctrl,
            data.M,
            self._inertia_at,
            self._contact,
            self._tool,
            self._centre,
            self._applied,
            self._plant,
            self.meter,
            self._noise,
            self.params,
            self.state,
            self._measurement,
            self._command_buffer,
            self.critic,
            self.ring_view,
        )
        self._run_s += time.perf_counter() - start
        self._run_count += ticks


def _inertia_index(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    # the inertia is stored as the lower triangle's rows; which struct owns the index has moved
    # between versions
    owner = model if hasattr(model, "M_rowadr") else data
    starts, counts, columns = owner.M_rowadr, owner.M_rownnz, owner.M_colind  # type: ignore
    index = np.full((7, 7), -1, np.int64)
    for i in range(7):
        for at in range(starts[i], starts[i] + counts[i]):
            index[i, columns[at]] = index[columns[at], i] = at
    return index.ravel()
