"""The environment that an actor steps: gymnasium's API over a host, in process or across one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np

from controllers.robot import Authority, Request, Snapshot
from handrail.errors import ConfigError
from handrail.risk_critic.violation import violates
from robot_env.protocol import Observation
from robot_env.tasks.base import Task
from robot_env.tasks.costs import cost

START_KEY = 0x57A7  # separates the seeds of numbered starts from those of episodes

Reward = Callable[[Observation, np.ndarray, dict[str, Any]], float]


class Host(Protocol):
    """The robot's side of the host socket, whichever process it lives in."""

    def reset(self, seed: int) -> tuple[Snapshot, np.ndarray]:
        """Begin the episode of a seed; return its first snapshot and the goal estimate."""
        ...

    def step(self, request: Request) -> Snapshot:
        """Carry a request out for one policy period."""
        ...

    def images(self) -> dict[str, np.ndarray]:
        """Return what the cameras see now, name -> (H, W, 3) uint8."""
        ...

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """Return a picture for people (height, width, 3) uint8."""
        ...

    def close(self) -> None:
        """Let go of the robot; safe to call twice."""
        ...


class RobotEnv(gymnasium.Env[Observation, np.ndarray]):
    """A task on a robot behind a host.

    `info` of `reset` and `step` carries `success`, `privileged_state` (named values), `snapshot`,
    `goal_estimate`, `script_inputs` (the last two, for scripts), and of `step` also
    `executed_action` and `filter_delta` (A,) (what the host made of the action), `cost` and
    `violation` of the step (`tasks.costs`, `risk_critic.violation`), `force_peak` [N] and `energy`
    [J], injected, of the episode so far, `host_s` and `observe_s` (wall time of the parts [s]).
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's name and form
    held_out = None  # a robot's tasks hold goals out by their config, as the maze's layouts

    def __init__(self, host: Host, task: Task, reward: Reward | None = None) -> None:
        """Wrap a host.

        Args:
            host: Runs the scene of the same task with the same config.
            task: Observation, action and success.
            reward: Of (observation, action, info) after a step; None for the task's own.
        """
        self.host, self.task = host, task
        self.render_mode = "rgb_array"
        self._reward = reward
        spec = task.spec
        images: dict[str, gymnasium.Space[Any]] = {
            name: gymnasium.spaces.Box(0, 255, shape, np.uint8)
            for name, shape in spec.images.items()
        }
        parts: dict[str, gymnasium.Space[Any]] = {
            "state": gymnasium.spaces.Box(-np.inf, np.inf, (spec.state,), np.float32)
        }
        if images:
            parts["images"] = gymnasium.spaces.Dict(images)
        self.observation_space = gymnasium.spaces.Dict(parts)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (spec.action,), np.float32)
        self._seed: int | None = None
        self._episode = 0
        self._seq = 0
        self._snapshot: Snapshot | None = None
        self._goal_estimate = np.zeros(3)
        self._force_peak = self._energy = 0.0
        self._t = 0

    @property
    def snapshot(self) -> Snapshot:
        """Newest snapshot.

        Raises:
            ConfigError: There is none before the first reset.
        """
        if self._snapshot is None:
            raise ConfigError("the environment has no state yet: call reset() first")
        return self._snapshot

    @property
    def goal_estimate(self) -> np.ndarray:
        """What the task says of this episode's goal."""
        return self._goal_estimate

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Restarts the sequence of episodes: the same seed, the same sequence. Without one
                the sequence goes on (from entropy, if none was ever given).
            options: `{"start": n}` begins numbered start n instead: it is the same for every env,
                seed and policy, and doesn't move the sequence.

        Returns:
            Observation and info.
        """
        super().reset(seed=seed)
        if seed is not None or self._seed is None:
            entropy = np.random.SeedSequence(seed).entropy
            assert isinstance(entropy, int)
            self._seed, self._episode = entropy, 0
        start = (options or {}).get("start")
        if start is None:
            sequence = np.random.SeedSequence([self._seed, self._episode])
            self._episode += 1
        else:
            sequence = np.random.SeedSequence([START_KEY, int(start)])
        self._snapshot, self._goal_estimate = self.host.reset(_seed_of(sequence))
        self._seq = max(0, self._snapshot.request_seq + 1)
        self._force_peak, self._energy, self._t = 0.0, 0.0, 0
        self._last_action = np.zeros(self.task.spec.action, np.float32)
        return self._observe(), self._info(self._snapshot)

    def step(
        self, action: np.ndarray, authority: int = Authority.POLICY
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Send one action and wait for the end of its period.

        Args:
            action: (A,) in [-1, 1].
            authority: `controllers.robot.Authority`, whom the action is from.

        Returns:
            Observation, reward, terminated (the task ended), truncated (time ran out), info.

        Raises:
            ConfigError: The action has another shape or isn't finite.
        """
        before = self.snapshot
        action = np.asarray(action, np.float32)
        if action.shape != (self.task.spec.action,) or not np.isfinite(action).all():
            raise ConfigError(
                f"an action must be {self.task.spec.action} finite values, got {action}"
            )
        action = np.clip(action, -1.0, 1.0)
        begun = time.monotonic()
        after = self.host.step(self.task.request(before, action, self._seq, authority))
        host_s = time.monotonic() - begun
        self._seq += 1
        self._t += 1
        self._snapshot = after
        self._force_peak = max(self._force_peak, after.force_peak)
        self._energy += after.energy_injected
        self._last_action = action
        executed_action = self.task.executed_action(before, after, action)
        success = self.task.success(after.privileged_state)
        truncated = not success and self._t >= self.task.spec.horizon
        begun = time.monotonic()
        observation = self._observe()
        info = self._info(after) | {
            "executed_action": executed_action,
            "filter_delta": executed_action - action,
            "cost": cost(after),
            "violation": bool(violates(self.task.limits, after.force_peak, spent=self._energy)),
            "host_s": host_s,
            "observe_s": time.monotonic() - begun,
        }
        if self._reward is None:
            reward = self.task.reward(after, self._goal_estimate)
        else:
            reward = self._reward(observation, action, info)
        return observation, reward, success, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Return a picture of the scene for people (480, 480, 3) uint8."""
        return self.host.render("film", 480, 480)

    def close(self) -> None:
        """Close the host."""
        self.host.close()

    def _observe(self) -> Observation:
        state = self.task.observe(self.snapshot, self._goal_estimate, self._last_action, self._t)
        return {"state": state} | ({"images": self.host.images()} if self.task.spec.images else {})

    def _info(self, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "success": self.task.success(snapshot.privileged_state),
            "privileged_state": self.task.named(snapshot.privileged_state),
            "snapshot": snapshot,
            "script_inputs": (snapshot, self._goal_estimate.copy()),
            "goal_estimate": self._goal_estimate.copy(),
            "force_peak": self._force_peak,
            "energy": self._energy,
        }


def _seed_of(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1, np.uint32)[0])
