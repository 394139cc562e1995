"""The robot's side of the host socket: a task's scene, its robot, and who may ask for what.

`HostCore` is the host without a process: lockstep, in the caller's own. The host process wraps the
same object, so that there is one behaviour.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from controllers.config import ControlConfig
from controllers.robot import REQUEST_SIZE, Authority, Fault, Mode, Request, Snapshot
from handrail.errors import CheckpointError, DeviceLost, Error, ProtocolMismatch
from handrail.risk_critic.file import critic_path, read_critic
from handrail.risk_critic.format import version_of
from robot_env.arms.base import ControlledArm
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot
from robot_env.host.risk_critic_buffer import RiskCriticBuffer
from robot_env.recorder.recorder import Recorder
from robot_env.tasks.base import PRIVILEGED_STATE_SIZE, Task, Zone

if TYPE_CHECKING:
    from robot_env.cameras.sim import SimCameras
log = logging.getLogger("host")

GOAL_ESTIMATE_SIZE = 16  # most values that a task may tell the env about an episode
_REST_TIMEOUT = 2.0  # [s], longest time in which a hold has become a soft stop


class HostCore:
    """A task on its simulated robot, one policy period per call."""

    def __init__(
        self,
        task: Task,
        robot_config: MujocoConfig,
        control_config: ControlConfig,
        *,
        readonly: bool = False,
        robot: ControlledArm | None = None,
    ) -> None:
        """Build the scene; compiled code is loaded or compiled by `warm_up` or the first call.

        Args:
            task: Task, with its config.
            robot_config: Table `[robot]`.
            control_config: Table `[control]`.
            readonly: Serve state and follow nobody.
            robot: Arm to serve instead of the simulated one that `robot_config` describes.
        """
        self.task = task
        self.ticks = round(1000.0 / task.spec.control_hz)  # of a policy period
        self.readonly = readonly
        self.refused = 0  # requests that were refused since the start
        control = with_zone(control_config, task.contact_zone)
        self._own = robot is None  # it may be moved to warm up
        # a task finds all that it touches on either
        self.robot = (
            MujocoRobot(task.scene(), robot_config, control, task.spec.control_hz)
            if robot is None
            else cast(MujocoRobot, robot)
        )
        self.recorder: Recorder | None = None
        self.critic = RiskCriticBuffer()  # `critic.active` is the packed one for this tick
        self._closed_why: str | None = "no episode yet"
        self._last_seq = -1
        self._fault = Fault.NONE
        self._cameras: SimCameras | None = None

    @property
    def in_episode(self) -> bool:
        """Whether requests are followed."""
        return self._closed_why is None

    def warm_up(self) -> None:
        """Compile, or load from the cache, all that a period runs through."""
        if not self._own:
            self.robot.warm_up()
            return
        self.reset(0)
        self.period(None, 1)
        self.end_episode("no episode yet")

    def reset(self, seed: int) -> tuple[Snapshot, np.ndarray]:
        """Begin the episode of a seed.

        Args:
            seed: Everything random about the episode comes from it; 0 or more.

        Returns:
            The first snapshot and the task's goal estimate.

        Raises:
            ProtocolMismatch: The seed is negative or no integer.
        """
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ProtocolMismatch(f"a seed is an integer of 0 or more, got {seed!r}")
        self.robot.heartbeat_age = 0.0
        goal_estimate = np.asarray(
            self.task.reset(self.robot, np.random.default_rng(seed)), np.float64
        )
        self._closed_why, self._fault = None, Fault.NONE
        self.note(f"episode {self.robot.episode} begins, seed {seed}")
        snapshot = self._finish(self.robot.snapshot())
        self._last_seq = snapshot.request_seq
        return snapshot, goal_estimate

    def step(self, request: Request) -> Snapshot:
        """Carry a request out for one policy period and return what happened.

        Raises:
            ProtocolMismatch: The request is malformed or not newer than the last one; it is
                counted and changes nothing.
            DeviceLost: There is no episode, or it was cut; reset first.
        """
        self.admit(request)
        return self.period(None if self.readonly else request, self.ticks)

    def admit(self, request: Request) -> None:
        """Take note of a request that is about to be carried out.

        Raises:
            ProtocolMismatch: As `step`.
            DeviceLost: As `step`.
        """
        if self._closed_why is not None:
            raise DeviceLost(f"the host follows no request: {self._closed_why}; reset first")
        fault = find_request_error(request, self._last_seq)
        if fault:
            self.refuse(fault)
        self._last_seq = request.seq

    def refuse(self, why: str, kind: type[Error] = ProtocolMismatch) -> NoReturn:
        """Count a request that is not carried out.

        Args:
            why: For the message.
            kind: Of the error.

        Raises:
            Error: Always, of that kind.
        """
        self.refused += 1
        raise kind(f"request refused: {why}")

    def period(self, request: Request | None, ticks: int) -> Snapshot:
        """Run some ticks, with a request that was admitted or none, and return what happened."""
        self.critic.switch()
        self.robot.critic = self.critic.active
        return self._finish(self.robot.run(request, ticks))

    def privileged_state(self) -> np.ndarray:
        """Return what really is (16,); zeros before the first episode.

        On a real robot zeros too, unless the task's truth can be measured there.
        """
        known = self.robot.simulated or self.task.success_is_measurable
        if not known or self.robot.episode == 0:
            return np.zeros(PRIVILEGED_STATE_SIZE)
        return self.task.privileged_state(self.robot)

    def recover(self) -> None:
        """Leave a fault of the robot, because a person asked for it; nothing moves by that.

        Raises:
            Error: It can't be left; the message says what to do.
        """
        self.note("recovery was asked for")
        self.robot.recover()

    def end_episode(self, why: str) -> None:
        """End the episode: no request is followed until the next reset."""
        self._closed_why = why

    def bring_to_rest(self) -> Snapshot:
        """Tick without requests until the arm is in its safe state: hold, then soft stop.

        This cuts the episode.
        """
        self._closed_why = self._closed_why or "the arm was taken to its safe state"
        self.robot.heartbeat_age = math.inf
        snapshot = self.period(None, self.ticks)
        for _ in range(round(_REST_TIMEOUT * self.task.spec.control_hz)):
            if snapshot.mode >= Mode.SOFT_STOP or snapshot.mode == Mode.IDLE:
                break
            snapshot = self.period(None, self.ticks)
        return self.period(None, self.ticks)  # the damping takes the last speed out

    def load_critic(self, array: np.ndarray) -> int:
        """Take a packed risk critic for the next period and return the newest version held.

        Raises:
            CheckpointError: It is damaged; the last good one stays.
        """
        try:
            newer = self.critic.offer(array)
        except CheckpointError as error:
            log.warning("refused a risk critic, version %d stays: %s", self.critic.newest, error)
            raise
        if newer:
            log.info("risk critic version %d", version_of(array))
        return self.critic.newest

    def load_critic_of(self, run_folder: Path) -> None:
        """Take a run's risk critic, if it has one; without it the limits hold alone."""
        path = critic_path(run_folder)
        if not path.exists():
            return
        try:
            self.load_critic(read_critic(path)[0])
        except CheckpointError as error:
            log.warning("no risk critic, the limits hold alone: %s", error)

    def images(self) -> dict[str, np.ndarray]:
        """Return the images that the task asks for, name -> (H, W, 3) uint8."""
        if not self.task.spec.images:
            return {}
        images = self.cameras().images()
        return {name: images[name] for name in self.task.spec.images}

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """Return a picture for people, (height, width, 3) uint8.

        Args:
            camera: Name of a camera of the scene.
            width: [px].
            height: [px].
        """
        return self.cameras().render(camera, width, height)

    def record(self, recorder: Recorder) -> None:
        """Record every tick from now on."""
        self.recorder, self.robot.ring_view = recorder, recorder.ring_view

    def note(self, what: str) -> None:
        """Have the flight recorder remember an event, if there is one."""
        if self.recorder is not None:
            self.recorder.note(what)

    def dump(self, why: str = "asked") -> Path:
        """Write the flight recorder's last seconds to a file and return its path.

        It takes seconds, from any thread.

        Raises:
            ProtocolMismatch: This host records nothing.
            StorageError: The file can't be written.
        """
        if self.recorder is None:
            raise ProtocolMismatch(
                "this host records nothing: in lockstep it does with [host] recorder_lockstep = "
                "true, in real time unless [host] recorder = 0"
            )
        return self.recorder.save(why)

    def try_dump(self, why: str) -> None:
        """Write a recording if this host records, and log where it is, or why there is none."""
        if self.recorder is not None:
            try:
                log.info("recording %s", self.dump(why))
            except Error as error:
                log.error("no recording of %s: %s", why, error)

    def close(self) -> None:
        """Free the cameras' contexts; safe to call twice."""
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    def cameras(self, data: Any = None) -> SimCameras:
        """Return the scene's cameras; the first call says what they look at.

        Args:
            data: `mujoco.MjData` to render from another thread; None for the robot's own.
        """
        if self._cameras is None:
            from robot_env.cameras.sim import SimCameras

            size = max((shape[0] for shape in self.task.spec.images.values()), default=128)
            self._cameras = SimCameras(
                self.robot.model, self.robot.data if data is None else data, size
            )
        return self._cameras

    def watch(self, snapshot: Snapshot, moving: bool = False) -> bool:
        """Log a fault that is new, and return whether there is one.

        Args:
            snapshot: Newest one.
            moving: Whether the arm was on its way to an episode: between episodes a person may
                stop and guide it, which is nothing to remember.
        """
        if snapshot.fault == self._fault:
            return False
        self._fault = Fault(snapshot.fault)
        if self._fault == Fault.NONE or not (moving or self.in_episode):
            return False
        log.warning("fault %s at tick %d", self._fault.name, snapshot.tick)
        self.note(f"fault {self._fault.name}")
        return True

    def _finish(self, snapshot: Snapshot) -> Snapshot:
        snapshot.privileged_state[:] = self.privileged_state()
        if self.watch(snapshot):
            self.try_dump(self._fault.name)
        return snapshot


def with_zone(config: ControlConfig, zone: Zone | None) -> ControlConfig:
    """Return the config with the task's contact zone, unless it names one of its own."""
    if zone is None or config.contact_low != config.contact_high:
        return config
    speed = min(zone.speed, config.contact_speed)
    return replace(config, contact_low=zone.low, contact_high=zone.high, contact_speed=speed)


def find_request_error(request: Request, last_seq: int) -> str:
    """Return what is wrong with a request, or "".

    Args:
        request: From outside; nothing about it is known.
        last_seq: Sequence number of the newest request that was taken.
    """
    try:
        values = request.pack()
    except (TypeError, ValueError) as error:
        return f"it is not made of numbers ({error})"
    if values.shape != (REQUEST_SIZE,):
        return f"position must be (3,) and quaternion (4,), got {REQUEST_SIZE} != {values.size}"
    if not np.isfinite(values).all():
        return f"every value must be finite, got {values}"
    if request.seq <= last_seq:
        return f"seq must be above {last_seq}, got {request.seq}"
    if request.authority not in tuple(Authority):
        return f"authority must be one of {[int(s) for s in Authority]}, got {request.authority}"
    norm = float(np.linalg.norm(values[5:9]))
    if abs(norm - 1.0) > 1e-3:
        return f"quaternion must have length 1, got {norm:g}"
    return ""
