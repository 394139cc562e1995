"""What the running actor sends to the robot before anything is learned is the base, bit for bit."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from actor.config import load_config
from actor.link.remote import RemoteLearnerClient
from actor.loop.episode import run_episode
from actor.loop.policies import LearnedPolicy, expert_policy
from controllers.robot import Request, Snapshot
from handrail.config import to_dict, to_toml
from handrail.run_folder import Run, create_run
from handrail.spec import dump_spec
from handrail.transition import Source, Transition
from learner.policy.policy import Mode, Policy
from learner.service.server import Server
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make

OVERRIDES = ["--learner.preset", "resfit", "--run.steps", "1000", "--run.demos", "4"]
OVERRIDES += ["--learner.collect", "0", "--learner.warmup", "0", "--base.max-steps", "200"]
OVERRIDES += ["--task.goal-range", "0.10", "0.12", "0.08", "--task.tolerance", "0.012"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = load_config("reach", OVERRIDES)
    spec = make("reach", config.task).spec
    run = create_run(tmp_path / "run", "reach", spec.hash, to_toml(config))
    run.spec.write_text(dump_spec(spec))
    return run


class Requests:
    """A host that keeps what it was asked."""

    def __init__(self, core: HostCore) -> None:
        self._core = core
        self.asked: list[Request] = []

    def reset(self, seed: int) -> tuple[Snapshot, np.ndarray]:
        return self._core.reset(seed)

    def step(self, request: Request) -> Snapshot:
        self.asked.append(request)
        return self._core.step(request)

    def images(self) -> dict[str, np.ndarray]:
        return self._core.images()

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        return self._core.render(camera, width, height)

    def close(self) -> None:
        self._core.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "base"])
def test_published_zero_init_policy_sends_what_the_base_sends(run: Run, mode: Mode):
    config = load_config("reach", OVERRIDES)
    task = make("reach", config.task)
    core = HostCore(task, config.robot, config.control)
    host = Requests(core)
    env = RobotEnv(host, task)
    server = Server(run, to_dict(config), task.spec)
    uplink = RemoteLearnerClient(run, task.spec, "actor-0", 0, lambda: False)
    policy = Policy(task.spec, config.learner, config.base, 0)
    try:
        record(env, task, uplink, config.run.demos)
        deadline = time.monotonic() + 120
        while policy.version < 0:
            assert time.monotonic() < deadline
            server._ingest(0.02)
            if not server.trainer.fitted and server.run_progress.demos >= config.run.demos:
                server._fit_base(threading.Event())
            uplink.refresh(policy)
        assert policy.has_base

        rows: list[Transition] = []
        # every schedule is at its end: only the zero-initialised edit makes this the base
        driver = LearnedPolicy(policy, mode, lambda: config.run.steps)
        host.asked.clear()
        run_episode(env, driver, seed=7, episode=99, source=Source.EVAL, sink=rows.append)
        steps = [row for row in rows if not row.end]
        assert len(host.asked) == len(steps) > 3
        base = server.trainer.base
        assert base is not None
        for row in steps:
            np.testing.assert_array_equal(row.action, row.base_action)
            assert row.base_valid
        assert any(np.abs(row.action).max() > 0.01 for row in steps)
        replayed = play(task, core, [row.base_action for row in steps])
        for sent, wanted in zip(host.asked, replayed, strict=True):
            np.testing.assert_array_equal(sent.pack()[1:], wanted.pack()[1:])
    finally:
        uplink.close(1.0)
        server.close()
        core.close()


def record(env: RobotEnv, task, uplink: RemoteLearnerClient, count: int) -> None:
    expert = expert_policy(task, np.random.default_rng(0), noisy=False)
    for episode in range(count):
        result = run_episode(
            env, expert, seed=episode, episode=episode, source=Source.DEMO, sink=uplink.send
        )
        assert result.success


def play(task, core: HostCore, actions: list[np.ndarray]) -> list[Request]:
    """Return the requests of an open-loop replay of the base's actions from the same start."""
    host = Requests(core)
    env = RobotEnv(host, task)
    env.reset(seed=7)
    for action in actions:
        env.step(action)
    return host.asked
