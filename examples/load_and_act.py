"""Load a trained policy and act with it: python examples/load_and_act.py runs/my-reach 3."""

from __future__ import annotations

import sys
from pathlib import Path

from actor.cli.run_folders import open_configured_run
from actor.loop.make_env import make_env, make_task
from learner.policy.load import load_policy


def main(folder: Path, episodes: int) -> None:
    """Run some episodes and print how each went."""
    _, config = open_configured_run(folder)
    policy, env = load_policy(folder), make_env(config, make_task(config))
    for episode in range(episodes):
        observation, info = env.reset(seed=episode)
        policy.reset()
        steps, total, done = 0, 0.0, False
        while not done:
            action = policy.act(observation["state"]).action  # (A,) in [-1, 1]
            observation, reward, terminated, truncated, info = env.step(action)
            steps, total, done = steps + 1, total + reward, terminated or truncated
        print(f"episode {episode}: success {info['success']}, {steps} steps, return {total:.2f}")
    env.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
