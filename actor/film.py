"""A short film of the trained policy: the same environment, inline, seen by the front camera."""

from __future__ import annotations

import numpy as np
from learner.acting import load_policy
from robot_env.host import HostCore

from actor.config import Config
from actor.drivers import PolicyDriver
from actor.episode import run_episode
from handrail.runs import Run
from handrail.transition import Source
from robot_env.env import RobotEnv
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
    temporary = run.folder / ".policy.tmp.mp4"
    try:
        with imageio.get_writer(
            temporary, fps=round(config.task.control_hz), macro_block_size=1, quality=8
        ) as out:

            def frame() -> None:
                out.append_data(np.ascontiguousarray(host.render("film", SIZE, SIZE)))

            for index in range(EPISODES):
                run_episode(
                    RobotEnv(host, task),
                    PolicyDriver(policy, "eval", lambda: 1 << 30),
                    seed=10_000 + index,
                    episode=index,
                    source=Source.EVAL,
                    sink=lambda row: None,
                    after_step=lambda info: frame(),
                )
                for _ in range(PAUSE):
                    frame()
        temporary.replace(run.folder / "policy.mp4")
    finally:
        temporary.unlink(missing_ok=True)
        host.close()
