"""The actor's process: the session over the real link, and the host's process if there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable

from actor.config import parse_config
from actor.link.remote import RemoteLearnerClient
from actor.loop.make_env import make_env, make_task
from actor.loop.session import Session
from handrail.link.config import resolve_link
from handrail.metrics import Metrics
from handrail.processes.stop import Wait
from handrail.run_folder import Run
from learner.policy.policy import Policy
from robot_env.client import HostClient
from robot_env.env import RobotEnv
from robot_env.gym.task import GymTask
from robot_env.host.authorization import Permission
from robot_env.protocol import Env
from robot_env.teleop.scripted import ScriptedOperator

log = logging.getLogger("actor")

HOST_PATIENCE = 120.0  # [s], for a host that compiles or comes back


def run_actor(run: Run, stop: Callable[[], bool]) -> None:
    """Carry out the run's session, from wherever it stands.

    Raises:
        Stopped: `stop` returned True; the run can be resumed.
        LinkTimeout: The learner doesn't answer.
        DeviceLost: The host doesn't come back.
    """
    config = parse_config(run.config_tables())
    task = make_task(config)
    metrics = Metrics(run, "actor")

    def say(text: str) -> None:
        log.info("%s", text)
        metrics.write("doing", text=text)

    def wait_for_host() -> Wait:
        return Wait("the robot host", HOST_PATIENCE, stop, say)

    intervener: ScriptedOperator | None = None
    host: HostClient | None = None
    env: Env
    if isinstance(task, GymTask):
        env = make_env(config, task, say=lambda text: metrics.write("event", text=text))
    else:
        if config.operator.enabled:
            intervener = ScriptedOperator(task, config.operator, config.run.seed)
        ask = Permission.POLICY if intervener is None else Permission.HUMAN
        metrics.write("doing", text="the actor waits for the arm's host")
        host = HostClient.connect(
            run.id,
            task,
            deadline=HOST_PATIENCE,
            ask=ask,
            key=run.host_key,
            between=wait_for_host().check,
        )
        env = RobotEnv(host, task)
    link = RemoteLearnerClient(
        run,
        task.spec,
        "actor-0",
        config.run.max_lead,
        stop,
        config.run.journal,
        None if host is None else host.load_critic,
        resolve_link(run, config.link, listens=False),
        config.link.short,
        say,
    )

    def reconnect() -> None:
        assert host is not None  # only a host can be lost
        host.reconnect(HOST_PATIENCE, wait_for_host().check)
        link.resend_critic()

    try:
        session = Session(
            config,
            task,
            env,
            Policy(task.spec, config.learner, config.base, config.run.seed),
            link,
            metrics,
            intervener,
            stop,
            reconnect,
        )
        session.run()
    finally:
        link.close()
        env.close()
        metrics.close()
