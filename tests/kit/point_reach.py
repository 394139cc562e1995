"""A plane, a goal, and a base that is always off: the smallest task with everything in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from handrail.spec import EnvSpec
from handrail.transition import Source, Transition
from learner.bases.protocol import BaseContext, no_base
from learner.config import BaseConfig, LearnerConfig
from learner.policy.policy import Mode, Policy
from learner.trainer import Trainer

SPEC = EnvSpec("point", "point", 10.0, 25, {"position": (0, 2), "goal": (2, 4)}, 2)
STEP = 0.1  # [m] per unit of action
PUBLISH_STEPS = 10  # [steps]
RADIUS = 0.06  # [m], closer than this is success


class Point:
    """Move to a goal; the state holds position and goal, reward is 1 on arrival."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self) -> np.ndarray:
        self.position = self.rng.uniform(-0.5, 0.5, 2)
        self.goal = self.rng.uniform(-0.5, 0.5, 2)
        self.t = 0
        return self.state()

    def state(self) -> np.ndarray:
        return np.concatenate([self.position, self.goal]).astype(np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool, bool]:
        self.position = np.clip(self.position + STEP * np.clip(action, -1, 1), -1, 1)
        self.t += 1
        success = bool(np.linalg.norm(self.position - self.goal) < RADIUS)
        return self.state(), success, not success and self.t >= SPEC.horizon


def biased_demos(episodes: int, seed: int, bias: float = 0.3) -> list[Transition]:
    """Return demonstrations that steer to a point off the goal, as a mis-calibrated expert does."""
    env, rows = Point(seed), []
    rng = np.random.default_rng(seed + 1)
    for episode in range(episodes):
        state, t = env.reset(), 0
        while True:
            aim = env.goal + (bias * STEP * 2 if t < 20 else 0.0)
            action = (aim - env.position) / STEP + rng.normal(0, 0.1, 2)
            action = np.clip(action, -1, 1).astype(np.float32)
            nxt, success, truncated = env.step(action)
            rows.append(row(episode, t, state, action, success, truncated, Source.DEMO))
            state, t = nxt, t + 1
            if success or truncated:
                break
        rows.append(end_row(episode, t, state, Source.DEMO))
    return rows


def row(
    episode: int,
    t: int,
    state: np.ndarray,
    action: np.ndarray,
    success: bool,
    truncated: bool,
    source: Source,
    base: BaseContext | None = None,
) -> Transition:
    zero = np.zeros(len(action), np.float32)
    base = base or no_base(len(action))
    return Transition(
        episode=episode,
        t=t,
        source=source,
        state=state,
        action=action,
        policy_action=action,
        filter_delta=zero,
        base_action=base.action,
        base_pos=base.position,
        base_valid=base.valid,
        reward=float(success),
        terminated=success,
        truncated=truncated,
        success=success,
    )


def end_row(
    episode: int,
    t: int,
    state: np.ndarray,
    source: Source,
    base: BaseContext | None = None,
) -> Transition:
    made = row(episode, t, state, np.zeros(SPEC.action, np.float32), False, False, source, base)
    return replace(made, end=True)


def run_episode(
    env: Point, policy: Policy, mode: Mode, trainer: Trainer | None = None, episode: int = 0
) -> bool:
    """Run one episode; with a trainer, feed it and let it update after each step."""
    state, t = env.reset(), 0
    policy.reset()
    while True:
        steps = trainer.env_steps if trainer is not None else None
        out = policy.act(state, mode, steps)
        nxt, success, truncated = env.step(out.action)
        if trainer is not None:
            trainer.add(
                row(episode, t, state, out.action, success, truncated, Source.ONLINE, out.base)
            )
            if trainer.due():
                trainer.advance(trainer.due(), report=False)
            if trainer.env_steps % PUBLISH_STEPS == 0:
                policy.load(*trainer.packet())
        state, t = nxt, t + 1
        if success or truncated:
            break
    if trainer is not None:
        last = policy.act(state, mode, trainer.env_steps)
        trainer.add(end_row(episode, t, state, Source.ONLINE, last.base))
    return success


def train(
    config: LearnerConfig, base: BaseConfig, seed: int, demos: list[Transition]
) -> tuple[Trainer, Policy]:
    """Train inline for the config's budget."""
    trainer = Trainer(config, base, SPEC, seed)
    for item in demos:
        trainer.add(item)
    trainer.fit_base()
    policy = Policy(SPEC, config, base, seed)
    policy.load(*trainer.packet())
    env, episode = Point(seed + 100), 0
    while trainer.env_steps < config.total_steps:
        run_episode(env, policy, "explore", trainer, episode)
        episode += 1
    policy.load(*trainer.packet())
    return trainer, policy


def success_rate(policy: Policy, mode: Literal["eval", "base"], episodes: int = 50) -> float:
    env = Point(9)
    return float(np.mean([run_episode(env, policy, mode) for _ in range(episodes)]))
