"""A short film of the trained policy: the same environment, inline, seen by the front camera."""

from __future__ import annotations

import warnings
from typing import Any

from actor.config import Config
from actor.drivers import PolicyDriver
from actor.episode import run_episode
from actor.evaluate import STREAM, start_seed
from handrail.runs import Run
from handrail.transition import Source
from learner.acting import load_policy
from robot_env.env import RobotEnv
from robot_env.host import HostCore
from robot_env.tasks import make

EPISODES = 4
SIZE = 480  # [px]
PAUSE = 6  # frames held at the end of an episode


def film(run: Run, config: Config) -> None:
    """Write policy.mp4: a few evaluation episodes, one frame per policy step.

    Raises:
        CheckpointError: The run has no usable checkpoint.
        OSError: The film can't be written.
        RuntimeError: There is no way to render here.
    """
    import imageio.v2 as imageio

    task = make(config.task.name, config.task)
    policy = load_policy(run.folder)
    host = HostCore(task, config.robot, config.control)
    frames: list[Any] = []

    def shoot(times: int = 1) -> None:
        frames.extend([host.render("film", SIZE, SIZE)] * times)

    try:
        for index in range(EPISODES):
            run_episode(
                RobotEnv(host, task),
                PolicyDriver(policy, "eval", lambda: 1 << 30),
                seed=start_seed(STREAM, config.run.seed, index),
                episode=index,
                source=Source.EVAL,
                sink=lambda row: None,
                after_step=lambda info: shoot(),
            )
            shoot(PAUSE)
    finally:
        host.close()
    temporary = run.folder / ".policy.tmp.mp4"
    try:
        with warnings.catch_warnings():
            # the encoder is another program: nothing of jax runs between fork and exec
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            imageio.mimwrite(
                temporary, frames, fps=round(config.task.control_hz), macro_block_size=1, quality=8
            )
        temporary.replace(run.folder / "policy.mp4")
    finally:
        temporary.unlink(missing_ok=True)
