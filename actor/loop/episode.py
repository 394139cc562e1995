"""One episode: observe, decide, let a person decide otherwise, act, and write down every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from controllers.robot import Authority
from handrail.spec import EnvSpec
from handrail.transition import Source, Transition
from learner.bases.protocol import BaseContext
from robot_env.protocol import Env

Sink = Callable[[Transition], None]


class ActionRecord(NamedTuple):
    """What a policy wants of one step, with the base's context at the same observation."""

    action: np.ndarray  # (A,) float32, in [-1, 1]
    base: BaseContext
    q: float = float("nan")  # value of the action under the critics, where known


class ActingPolicy(Protocol):
    """Whoever has the arm by default: a policy, a scripted expert, a trivial policy."""

    def reset(self) -> None:
        """Forget the previous episode."""
        ...

    def act(self, observation: dict[str, Any], info: dict[str, Any]) -> ActionRecord:
        """Return what to do at this observation."""
        ...

    def flush(self) -> None:
        """Drop planned actions: somebody else had the arm."""
        ...


class Intervener(Protocol):
    """Whoever may take over: a teleoperation device, or the scripted operator."""

    def resume(self, steps: int, takeovers: int, episodes: int) -> None:
        """The run goes on: so many steps were driven, in so many take-overs and episodes."""
        ...

    def reset(self, noise_free: bool = False) -> None:
        """A new episode begins; a quiet one shows how the policy does by itself."""
        ...

    def read(self, observation: dict[str, Any], info: dict[str, Any]) -> np.ndarray | None:
        """Return the action (A,) while the person holds the arm, None otherwise."""
        ...


@dataclass(frozen=True)
class EpisodeResult:
    """What an episode came to."""

    success: bool
    reward_sum: float  # of the rewards that the task reports
    length: int  # [steps]
    human_steps: int  # [steps]
    takeovers: int  # times that the person took the arm
    complete: bool  # False: stopped or cut before its end
    q: float  # mean value of the chosen actions, nan where unknown
    info: dict[str, Any]  # of the last step

    @property
    def autonomous(self) -> bool:
        """Whether nobody helped."""
        return self.human_steps == 0


def run_episode(
    env: Env,
    policy: ActingPolicy,
    *,
    seed: int,
    episode: int,
    source: Source,
    sink: Sink,
    intervener: Intervener | None = None,
    noise_free: bool = False,
    max_steps: int | None = None,
    before_step: Callable[[], bool] = lambda: True,
    after_step: Callable[[dict[str, Any]], None] = lambda info: None,
) -> EpisodeResult:
    """Run one episode and hand each row to the sink as soon as it is known.

    A lost host raises out of here; the rows so far stay, and without an end row no learner
    bootstraps past the gap.

    Args:
        env: The environment.
        policy: Has the arm unless the person takes it.
        seed: Fixes the start.
        episode: Number written into the rows.
        source: Written into the rows.
        sink: Receives the rows, in order.
        intervener: May take over.
        noise_free: Whether the episode shows how the policy does by itself; told to the person.
        max_steps: After so many steps the episode is cut: its last observation is written down, so
            that values bootstrap from it, but no flag that its time was up. None for no such bound.
        before_step: Called before each step; False ends the episode there, cut.
        after_step: Called with each step's info.

    Raises:
        DeviceLost: The host died.
    """
    observation, info = env.reset(seed=seed)
    policy.reset()
    if intervener is not None:
        intervener.reset(noise_free)
    spec = env.task.spec
    reward_sum, human_steps, takeovers, q_sum = 0.0, 0, 0, 0.0
    human_before = False
    success = complete = False
    t = 0
    cut = False
    while not (complete or cut):
        if not before_step():
            break
        human = intervener.read(observation, info) if intervener is not None else None
        if (human is not None) != human_before:
            policy.flush()
            takeovers += human is not None
        human_before = human is not None
        decision = policy.act(observation, info)
        action = decision.action if human is None else np.clip(human, -1, 1).astype(np.float32)
        nxt, reward, terminated, truncated, info = env.step(
            action, Authority.POLICY if human is None else Authority.HUMAN
        )
        success = bool(info["success"])
        sink(
            Transition(
                episode=episode,
                t=t,
                source=int(source),
                state=observation["state"],
                action=action,
                policy_action=decision.action,
                filter_delta=np.asarray(info["filter_delta"], np.float32),
                base_action=decision.base.action,
                base_pos=decision.base.position,
                base_valid=decision.base.valid,
                reward=float(reward),
                terminated=bool(terminated),
                truncated=bool(truncated),
                success=success,
                intervened=human is not None,
                cost=float(np.float32(info["cost"])),
                violation=bool(info["violation"]),
                images=observation.get("images", {}),
            )
        )
        reward_sum += float(info.get("return_reward", reward))
        human_steps += human is not None
        q_sum += decision.q
        t += 1
        after_step(info)
        observation = nxt
        complete = terminated or truncated
        cut = not complete and t == max_steps
    if complete or cut:
        sink(_end_row(spec, episode, t, source, observation, policy.act(observation, info).base))
    q = q_sum / t if t else float("nan")
    return EpisodeResult(success, reward_sum, t, human_steps, takeovers, complete, q, info)


def _end_row(
    spec: EnvSpec,
    episode: int,
    t: int,
    source: Source,
    observation: dict[str, Any],
    base: BaseContext,
) -> Transition:
    nothing = np.zeros(spec.action, np.float32)
    return Transition(
        episode=episode,
        t=t,
        source=int(source),
        state=observation["state"],
        action=nothing,
        policy_action=nothing,
        filter_delta=nothing,
        base_action=base.action,
        base_pos=base.position,
        base_valid=base.valid,
        end=True,
        images=observation.get("images", {}),
    )
