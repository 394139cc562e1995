"""Evaluate several policies from the same starts, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from actor.loop.episode import ActingPolicy, EpisodeResult, run_episode
from actor.loop.policies import LearnedPolicy, baseline_policy
from handrail.transition import Source
from learner.policy.policy import Policy
from robot_env.protocol import Env, EnvTask

HELD_OUT = "held_out/"  # before the names of results on goals that training never shows
STREAM = 1_000_003  # sets evaluation starts apart from training starts


def policies_to_evaluate(task: EnvTask, policy: Policy, seed: int) -> dict[str, ActingPolicy]:
    """Return the policy, its base, and the task's trivial policies, by name.

    The policy edits as far as its weights were trained to at their time.
    """
    policies: dict[str, ActingPolicy] = {"policy": LearnedPolicy(policy, "eval")}
    if policy.has_base:
        policies["base"] = LearnedPolicy(policy, "base")
    for name in task.baselines:
        policies[f"trivial/{name}"] = baseline_policy(task, name, np.random.default_rng(seed))
    return policies


def evaluate(
    env: Env,
    policies: dict[str, ActingPolicy],
    starts: Iterable[int],
    seed: int,
    before_step: Callable[[], bool] = lambda: True,
    after_step: Callable[[dict], None] = lambda info: None,
    report: Callable[[str, int, EpisodeResult], None] = lambda name, start, result: None,
) -> dict[str, list[EpisodeResult]]:
    """Run each policy from each start.

    Args:
        env: The environment.
        policies: Whom to evaluate, by name.
        starts: Numbers of the starts; with the seed they fix everything that is random.
        seed: Of the run.
        before_step: As in `run_episode`.
        after_step: As in `run_episode`.
        report: Called after each episode with policy, start and result.

    Returns:
        For each policy its results, in the order of the starts.

    Raises:
        DeviceLost: The host died.
    """
    results: dict[str, list[EpisodeResult]] = {name: [] for name in policies}
    for start in starts:
        for name, policy in policies.items():
            result = run_episode(
                env,
                policy,
                seed=start_seed(STREAM, seed, start),
                episode=start,
                source=Source.EVAL,
                sink=lambda row: None,
                before_step=before_step,
                after_step=after_step,
            )
            results[name].append(result)
            report(name, start, result)
    return results


def with_held_out(env: Env) -> dict[str, Env]:
    """Return the environment, and the one with held-out goals if any, by the prefix of results."""
    return {"": env} if env.held_out is None else {"": env, HELD_OUT: env.held_out}


def start_seed(*keys: int) -> int:
    """Return the seed of one start, the same for the same keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])
