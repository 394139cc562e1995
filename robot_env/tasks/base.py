"""What every task has: a scene and privileged state on the host, observation and action at the env.

The host side (`scene`, `reset`, `privileged_state`) touches the simulated robot; the env side
touches only snapshots and the goal estimate, so that it runs in another process and, for tasks that
a real robot can do, without a simulator. A task subclasses `Task` once; nothing else inherits.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from controllers.robot import Authority, Request, Snapshot
from handrail.config import digest
from handrail.errors import ConfigError
from handrail.risk_critic.violation import Limits
from handrail.spec import EnvSpec, slices_of
from robot_env.tasks.config import TaskConfig, Vector
from robot_env.tasks.experts.noisy_expert import NoisyExpert

if TYPE_CHECKING:
    from robot_env.arms.sim.mujoco_robot import MujocoRobot

PRIVILEGED_STATE_SIZE = 16  # length of the privileged state in a snapshot
CONTROL_HZ = 10.0  # [Hz], policy steps per second where neither config nor task says
TASK_FORMAT = 1  # raised when a task changes in a way that its config doesn't show
DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # xyzw: the tool's z axis points at the table
HOME = np.array([0.0, 0.05, 0.0, -2.15, 0.0, 2.2, 0.785])  # [rad], where inverse kinematics starts
OPEN = 0.08  # [m], the gripper's widest opening
HYSTERESIS = 0.3  # [-], a gripper action within ± this keeps the last command

POSITION_SCALE = 0.03  # [m], of the tool to the goal
ERROR_SCALE = 0.01  # [m], of target minus tool
FORCE_SCALE = 20.0  # [N]
TORQUE_SCALE = 0.5  # [N m]
VELOCITY_SCALE = 0.1  # [m/s]
TANK_SCALE = 2.0  # [J]

ANY_TASK = (  # keys of [task] that every task of the arm reads
    "name", "control_hz", "force_limit", "energy_budget", "images", "image_size",
)  # fmt: skip


class Zone(NamedTuple):
    """A box in which contact is likely, base frame, and how fast the target may move there."""

    low: Vector  # [m]
    high: Vector  # [m]
    speed: float  # [m/s]


class ScriptedPolicy(Protocol):
    """Something that acts on what the host says: experts and baselines."""

    def reset(self) -> None:
        """Forget the last episode."""
        ...

    def act(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return an action (A,) in [-1, 1]."""
        ...


class Task(ABC):
    """A task: where things are, what is seen, what is asked, what counts as done.

    Class attributes:
        defaults: Values of `TaskConfig` where the config leaves None.
        privileged_names: Entries of the privileged state, `success` first.
        gripper: True if the last action dimension commands the gripper, +1 close, -1 open.
        objects: Length of the observed pose of the loose object, 0 for none.
        contact_zone: Where contact is likely, so that the target moves slowly; None for nowhere.
        success_is_measurable: Whether the measured joints say all of the privileged state, so
            that a real arm knows it.
    """

    defaults: ClassVar[dict[str, Any]]
    privileged_names: ClassVar[tuple[str, ...]]
    gripper: ClassVar[bool] = False
    objects: ClassVar[int] = 0
    contact_zone: ClassVar[Zone | None] = None
    success_is_measurable: ClassVar[bool] = False

    def __init__(self, config: TaskConfig) -> None:
        """Resolve the config and lay out the observation."""
        self.config = resolve(config, self.defaults)
        self.name = config.name  # as in the config and the registry
        size = self.config.image_size
        images = {"wrist": (size, size, 3), "front": (size, size, 3)} if self.config.images else {}
        self.spec = EnvSpec(
            task=self.name,
            task_hash=digest(self.config, {"format": TASK_FORMAT}),
            control_hz=self.value("control_hz"),
            horizon=self.horizon,
            slices=slices_of(**self.observation_parts()),
            action=self.action_size,
            images=images,
            gripper=3 if self.gripper else -1,
        )

    # ---- host side: the simulated robot is at hand ------------------------------------------

    @abstractmethod
    def scene(self) -> str:
        """Return the MJCF of robot and task."""

    @abstractmethod
    def reset(self, robot: MujocoRobot, rng: np.random.Generator) -> np.ndarray:
        """Draw and set up a new episode: same generator state, same start.

        Args:
            robot: Simulated robot that runs `scene()`.
            rng: Everything random about the episode comes from here.

        Returns:
            What the env may know of it, (<= 16,) float64; the estimated goal of the tool centre,
            base frame [m], comes first.
        """

    @abstractmethod
    def privileged_state(self, robot: MujocoRobot) -> np.ndarray:
        """Return what really is, (16,) float64: entries as `privileged_names`, zeros after them."""

    # ---- env side: snapshots only -----------------------------------------------------------

    @abstractmethod
    def expert_action(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action of someone who sees the truth, (A,); from any state, without memory."""

    @abstractmethod
    def distance_to_success(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return how far the task is from done [m], by the truth: falls as the task advances."""

    @property
    def has_success(self) -> bool:
        """Whether anything says what success is: the privileged state's first entry does."""
        return True

    @property
    def baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Policies without skill or truth; a task that one of them solves is too easy."""
        return {"random": lambda rng: RandomPolicy(self.action_size, rng)}

    @property
    def scripted_baselines(self) -> dict[str, Callable[[np.random.Generator], ScriptedPolicy]]:
        """Hand-made policies with skill but without the truth: what a learner competes with."""
        return {}

    @property
    def action_size(self) -> int:
        """Number of action dimensions, A."""
        return 4 if self.gripper else 3

    def observation_parts(self) -> dict[str, int]:
        """Return the parts of the observation in order: name and length."""
        sizes = {"position": 3, "error": 3, "wrench": 6, "velocity": 3}
        if self.gripper:
            sizes["gripper"] = 2
        if self.objects:
            sizes["object"] = self.objects
        return sizes | {"action": self.action_size, "tank": 1, "time_left": 1}

    @property
    def limits(self) -> Limits:
        """What a step must not do; see `handrail.risk_critic.violation`."""
        force, energy = self.config.force_limit, self.config.energy_budget
        return Limits(math.inf if force is None else force, math.inf if energy is None else energy)

    @property
    def horizon(self) -> int:
        """Steps of an episode before it is truncated."""
        return self.value("horizon", int)

    def value(self, name: str, kind: Callable[[Any], Any] = float) -> Any:
        """Return a value of the resolved config, which is None nowhere that the task reads."""
        value = getattr(self.config, name)
        if value is None:
            raise ValueError(
                f"task {self.name} reads {name}, but neither config nor defaults set it"
            )
        return kind(value)

    def vector(self, name: str) -> Vector:
        """Return a range of the resolved config (3,)."""
        x, y, z = self.value(name, tuple)
        return (x, y, z)

    def observe(
        self, snapshot: Snapshot, goal_estimate: np.ndarray, last_action: np.ndarray, t: int
    ) -> np.ndarray:
        """Return the state vector (S,) float32, laid out by `spec.slices`, every part O(1).

        Args:
            snapshot: What the host said at the end of the last period.
            goal_estimate: What `reset` returned.
            last_action: Action (A,) that was sent in the last period, zeros at the start.
            t: Steps done in this episode [steps].
        """
        parts = [
            (snapshot.position - goal_estimate[:3]) / POSITION_SCALE,
            (snapshot.target_position - snapshot.position) / ERROR_SCALE,
            snapshot.wrench[:3] / FORCE_SCALE,
            snapshot.wrench[3:] / TORQUE_SCALE,
            snapshot.twist[:3] / VELOCITY_SCALE,
        ]
        if self.gripper:
            grip = np.array([snapshot.gripper_width, snapshot.gripper_target])
            parts.append(2.0 * grip / OPEN - 1.0)
        if self.objects:
            parts.append(self.object_view(snapshot))
        time_left = 2.0 * (self.horizon - t) / self.horizon - 1.0
        parts += [last_action, [snapshot.tank / TANK_SCALE], [time_left]]
        return np.concatenate(parts).astype(np.float32)

    def object_view(self, snapshot: Snapshot) -> np.ndarray:
        """Return the observed pose of the loose object (`objects`,), scaled.

        Raises:
            ConfigError: The task observes none; one that sets `objects` has this method of its own.
        """
        raise ConfigError(f"task {self.name} has objects = {self.objects}, but no object_view")

    def request(
        self, snapshot: Snapshot, action: np.ndarray, seq: int, authority: int = Authority.POLICY
    ) -> Request:
        """Return the request of an action: a step from where the spring's end is now.

        Args:
            snapshot: Newest one; its target is what the step is relative to.
            action: (A,) in [-1, 1]; beyond that it is clipped.
            seq: Number of this request.
            authority: `controllers.robot.Authority`.
        """
        action = np.clip(action, -1.0, 1.0).astype(np.float64)
        position = snapshot.target_position + self.value("action_scale") * action[:3]
        grip = snapshot.gripper_target
        if self.gripper and abs(action[3]) > HYSTERESIS:
            grip = 0.0 if action[3] > 0.0 else OPEN
        return Request(seq, int(authority), position, DOWN.copy(), float(grip))

    def executed_action(self, before: Snapshot, after: Snapshot, action: np.ndarray) -> np.ndarray:
        """Return the action that the host really carried out (A,) float32.

        Leash, box, speed limit and energy gate can hold the target back; the gripper's part is
        never changed.

        Args:
            before: Snapshot that the request was relative to.
            after: Snapshot at the end of the period.
            action: What was sent (A,).
        """
        executed_action = np.clip(action, -1.0, 1.0).astype(np.float32)
        moved = after.target_position - before.target_position
        executed_action[:3] = np.clip(moved / self.value("action_scale"), -1.0, 1.0)
        return executed_action

    def success(self, privileged_state: np.ndarray) -> bool:
        """Return True if the privileged state says that the task is done."""
        return bool(privileged_state[0] > 0.5)

    def reward(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> float:
        """Return the reward of a step: 1 on success, else 0; a task may have a denser one.

        Args:
            snapshot: At the end of the step, with its truth.
            goal_estimate: What `reset` returned.
        """
        return float(self.success(snapshot.privileged_state))

    def named(self, privileged_state: np.ndarray) -> dict[str, float]:
        """Return the privileged state as names and values."""
        return dict(zip(self.privileged_names, map(float, privileged_state), strict=False))

    def privileged_value(self, snapshot: Snapshot, name: str) -> float:
        """Return one entry of the privileged state by name."""
        return float(snapshot.privileged_state[self.privileged_names.index(name)])

    def expert(self, rng: np.random.Generator, noise: float = 0.0) -> NoisyExpert:
        """Return a privileged policy.

        Args:
            rng: Source of its noise.
            noise: 0 for its best, 1 for a person's hand: correlated error and lapses.
        """
        return NoisyExpert(self.expert_action, self.action_size, self.gripper, rng, noise)


class RandomPolicy:
    """Uniform actions."""

    def __init__(self, action_size: int, rng: np.random.Generator) -> None:
        self._size, self._rng = action_size, rng

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return a uniform action (A,)."""
        return self._rng.uniform(-1.0, 1.0, self._size)


class FunctionPolicy:
    """A policy that is a function of snapshot, goal estimate and the number of the step."""

    def __init__(self, rule: Callable[[Snapshot, np.ndarray, int], np.ndarray]) -> None:
        self._rule, self._t = rule, 0

    def reset(self) -> None:
        """Start counting again."""
        self._t = 0

    def act(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the rule's action, clipped (A,)."""
        action = self._rule(snapshot, goal_estimate, self._t)
        self._t += 1
        return np.clip(action, -1.0, 1.0)


def resolve(config: TaskConfig, defaults: dict[str, Any]) -> TaskConfig:
    """Return the config with the task's defaults where it says None."""
    defaults = {"control_hz": CONTROL_HZ, **defaults}
    missing = {k: v for k, v in defaults.items() if getattr(config, k) is None}
    return dataclasses.replace(config, **missing)


def refuse_unread_keys(task: Task, config: TaskConfig) -> None:
    """Refuse keys of [task] that this task of the arm doesn't read.

    Args:
        task: Made from the config.
        config: As it was given, before defaults were filled in.

    Raises:
        ConfigError: Names the key, and those that the task reads.
    """
    read = [item.name for item in dataclasses.fields(config) if item.name in ANY_TASK]
    read += [key for key in task.defaults if key not in ANY_TASK]
    for item in dataclasses.fields(config):
        if item.name not in read and getattr(config, item.name) is not None:
            raise ConfigError(
                f"task.{item.name} means nothing to {task.name!r}, which reads {', '.join(read)}"
            )


def uniform(rng: np.random.Generator, half: tuple[float, float, float]) -> np.ndarray:
    """Return a point uniform within ± half of the origin (3,)."""
    return rng.uniform(-1.0, 1.0, 3) * np.asarray(half)


def pack(*values: float) -> np.ndarray:
    """Return values as a privileged state, zeros after them (16,)."""
    privileged_state = np.zeros(PRIVILEGED_STATE_SIZE)
    privileged_state[: len(values)] = values
    return privileged_state
