"""A short film of the trained policy: the same environment, inline, as people see it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from actor.config import Config
from actor.loop.evaluate import evaluate
from actor.loop.make_env import make_env, make_task
from actor.loop.policies import LearnedPolicy
from handrail.processes.stop import Stopped
from handrail.run_folder import Run
from learner.policy.load import load_policy

EPISODES = 4
PAUSE = 6  # frames held at the end of an episode


def record_video(run: Run, config: Config, stop: Callable[[], bool] = lambda: False) -> None:
    """Write policy.mp4: a few evaluation episodes, one frame per policy step.

    Args:
        run: The run.
        config: Its config.
        stop: Returns True once it is to stop.

    Raises:
        Stopped: `stop` returned True.
        CheckpointError: The run has no usable checkpoint.
        OSError: The film can't be written.
        RuntimeError: There is no way to render here.
    """
    import imageio.v2 as imageio

    task = make_task(config)
    policy = load_policy(run.folder)
    env = make_env(config, task)
    frames: list[Any] = []

    def shoot(times: int = 1) -> None:
        if stop():
            raise Stopped
        frames.extend([env.render()] * times)

    try:
        evaluate(
            env,
            {"policy": LearnedPolicy(policy, "eval")},
            range(EPISODES),
            config.run.seed,
            after_step=lambda info: shoot(),
            report=lambda name, start, result: shoot(PAUSE),
        )
    finally:
        env.close()
    temporary = run.folder / ".policy.tmp.mp4"
    try:
        with warnings.catch_warnings():
            # the encoder is another program: nothing of jax runs between fork and exec
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            imageio.mimwrite(
                temporary, frames, fps=round(task.spec.control_hz), macro_block_size=1, quality=8
            )
        temporary.replace(run.folder / "policy.mp4")
    finally:
        temporary.unlink(missing_ok=True)
