"""The plan of a run as the actor carries it out: record, wait for the base, train, evaluate.

The session doesn't know where its learner is: a `LearnerClient` is either the real
one over sockets or the inline one that calls the trainer in the same process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from actor.config import Config
from actor.link.client import LearnerClient
from actor.loop.episode import ActingPolicy, EpisodeResult, Intervener, run_episode
from actor.loop.evaluate import evaluate, policies_to_evaluate, start_seed, with_held_out
from actor.loop.policies import LearnedPolicy, expert_policy
from controllers.robot import Snapshot
from handrail.errors import DeviceLost
from handrail.metrics import Metrics
from handrail.processes.exit_record import RUNNING, record_state
from handrail.processes.stop import Stopped, Wait
from handrail.transition import Source, Transition
from learner.policy.policy import Policy
from robot_env.protocol import Env, EnvTask

log = logging.getLogger("actor")

BASE_PATIENCE = 3600.0  # [s], for the learner's first weights: the base may be trained before
UPDATE_PATIENCE = 600.0  # [s], for a learner to catch up, compiling included
STATUS_PERIOD = 1.0  # [s], between rows about the actor itself


class Session:
    """Carries out one run, from wherever it stands to its end."""

    def __init__(
        self,
        config: Config,
        task: EnvTask,
        env: Env,
        policy: Policy,
        link: LearnerClient,
        metrics: Metrics,
        intervener: Intervener | None,
        stop: Callable[[], bool],
        reconnect: Callable[[], None],
    ) -> None:
        self.config = config
        self.task = task
        self.env = env
        self.policy = policy
        self.link = link
        self.metrics = metrics
        self.intervener = intervener
        self.stop = stop
        self.reconnect = reconnect
        self.env_steps = 0
        self.episode = 0
        self.phase = ""
        self._noise_free = False
        self._recent: deque[bool] = deque(maxlen=20)
        self._status_time = 0.0
        self._status_steps = 0
        self._steps_taken = 0

    def run(self) -> None:
        """Record, train and evaluate; what the learner already holds is not done again.

        Raises:
            Stopped: `stop` returned True.
        """
        progress = self.link.progress()
        self.env_steps, self.episode = progress.env_steps, progress.episodes
        if self.intervener is not None:
            self.intervener.resume(progress.human_steps, progress.takeovers, progress.episodes)
        self.record(self.config.run.demos - progress.demos)
        self.wait_for_weights()
        self.train(self.config.run.steps)
        self.link.wait_for_updates(self.policy, self.env_steps)
        self.link.keep()
        self.evaluate(self.config.run.eval_episodes)

    def record(self, count: int) -> None:
        """Record successful demonstrations by the task's scripted expert."""
        if count <= 0:
            return
        self._enter("record")
        rng = np.random.default_rng([self.config.run.demo_seed, self.episode])
        expert = expert_policy(self.task, rng, noisy=True)
        done = attempt = 0
        while done < count:
            rows: list[Transition] = []
            seed = start_seed(self.config.run.demo_seed, int(Source.DEMO), self.episode + attempt)
            attempt += 1
            result = self._episode(expert, Source.DEMO, seed, rows.append, self.episode)
            if result is None or not result.success:
                continue
            for row in rows:
                self.link.send(row)
            self.episode += 1
            done += 1
            self._report_episode(result, demos=done)

    def wait_for_weights(self) -> None:
        """Wait until the learner has published weights; it may have to train the base first."""
        self._enter("base")
        wait = Wait("the learner's first weights", BASE_PATIENCE, self.stop, self._say)
        while self.policy.version < 0:
            wait.check()
            self.link.refresh(self.policy)
            if self.policy.version < 0:
                time.sleep(0.05)

    def train(self, total: int) -> None:
        """Roll out and learn until the run has its training steps; the last episode is cut."""
        policies: list[ActingPolicy] = [
            LearnedPolicy(self.policy, mode, lambda: self.env_steps)
            for mode in ("explore", "eval", "noise_free")
        ]
        every = self.config.learner.noise_free_every
        while self.env_steps < total:
            episode = self.episode
            noise_free = every > 0 and episode % every == 0
            self.episode += 1
            turn = 1 + episode // every % 2 if noise_free else 0
            seed = start_seed(self.config.run.seed, int(Source.ONLINE), episode)
            result = self._episode(
                policies[turn],
                Source.ONLINE,
                seed,
                self._send_counted,
                episode,
                intervener=self.intervener,
                noise_free=noise_free,
                max_steps=total - self.env_steps,
                before_step=self._before_training_step,
            )
            if result is not None and result.complete:
                if result.autonomous:
                    self._recent.append(result.success)
                self._report_episode(result, quiet=noise_free)

    def evaluate(self, count: int) -> None:
        """Evaluate policy, base and trivial policies, interleaved, from the same starts."""
        self._enter("evaluation")
        policies = policies_to_evaluate(self.task, self.policy, self.config.run.seed)
        start = 0
        while start < count:
            try:
                for prefix, env in with_held_out(self.env).items():
                    evaluate(
                        env,
                        policies,
                        range(start, start + 1),
                        self.config.run.seed,
                        self._before_any_step,
                        self._after_step,
                        partial(self._report_evaluation, prefix),
                    )
            except DeviceLost as error:
                self._recover(error)
            else:
                start += 1

    def _report_evaluation(self, prefix: str, name: str, start: int, result: EpisodeResult) -> None:
        self.metrics.write(
            "eval",
            policy=prefix + name,
            start=start,
            env_steps=self.env_steps,
            policy_version=self.policy.version,
            **outcome_row(result, self.task.has_success),
        )

    def _episode(
        self,
        policy: ActingPolicy,
        source: Source,
        seed: int,
        sink: Callable[[Transition], None],
        episode: int,
        intervener: Intervener | None = None,
        noise_free: bool = False,
        max_steps: int | None = None,
        before_step: Callable[[], bool] | None = None,
    ) -> EpisodeResult | None:
        """Return the episode's result, or None where the host was lost and is back."""
        self._noise_free = noise_free
        try:
            return run_episode(
                self.env,
                policy,
                seed=seed,
                episode=episode,
                source=source,
                sink=sink,
                intervener=intervener,
                noise_free=noise_free,
                max_steps=max_steps,
                before_step=before_step or self._before_any_step,
                after_step=self._after_step,
            )
        except DeviceLost as error:
            self._recover(error)
            return None
        finally:
            self._noise_free = False

    def _recover(self, error: DeviceLost) -> None:
        log.warning("%s; the episode is cut", error)
        self.metrics.write("event", text="host lost, episode cut", env_steps=self.env_steps)
        self._check_stop()
        self.reconnect()
        self.metrics.write("event", text="host is back", env_steps=self.env_steps)

    def _send_counted(self, row: Transition) -> None:
        self.link.send(row)
        if not row.end:
            self.env_steps += 1

    def _before_any_step(self) -> bool:
        self._check_stop()
        return True

    def _before_training_step(self) -> bool:
        self._check_stop()
        self.link.refresh(self.policy)
        if not self.link.may_step(self.env_steps):
            wait = Wait("the learner to catch up", UPDATE_PATIENCE, self.stop, self._say)
            while not self.link.may_step(self.env_steps):
                wait.check()
                time.sleep(0.002)
                self.link.refresh(self.policy)
        self._enter(self.policy.phase)
        return True

    def _after_step(self, info: dict[str, Any]) -> None:
        if self._steps_taken == 0:
            record_state(RUNNING)
        self._steps_taken += 1
        now = time.monotonic()
        elapsed = now - self._status_time
        if elapsed < STATUS_PERIOD:
            return
        self.metrics.write(
            "actor",
            env_steps=self.env_steps,
            phase=self.phase,
            steps_per_s=(self._steps_taken - self._status_steps) / elapsed,
            **_arm(info.get("snapshot")),
            authority="human" if info.get("human") else "policy",
            quiet=self._noise_free,
            success_20=sum(self._recent) / len(self._recent)
            if self._recent and self.task.has_success
            else None,
            policy_version=self.policy.version,
            **self.link.status(),
        )
        self._status_time, self._status_steps = now, self._steps_taken

    def _report_episode(self, result: EpisodeResult, **more: Any) -> None:
        self.metrics.write(
            "episode",
            phase=self.phase,
            episode=self.episode - 1,
            env_steps=self.env_steps,
            **outcome_row(result, self.task.has_success),
            **more,
        )

    def _say(self, text: str) -> None:
        log.info("%s", text)
        self.metrics.write("doing", text=text, env_steps=self.env_steps)

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase = phase
            log.info("phase %s at %d training steps", phase, self.env_steps)
            self.metrics.write("phase", phase=phase, env_steps=self.env_steps)

    def _check_stop(self) -> None:
        if self.stop():
            raise Stopped


def outcome_row(result: EpisodeResult, judged: bool) -> dict[str, Any]:
    """Return what an episode came to, as in a row of metrics; `judged`: something says success."""
    truth = {k: v for k, v in result.info["privileged_state"].items() if k != "success"}
    return {
        "success": result.success if judged else None,  # null: nothing says what success is
        "autonomous": result.autonomous,
        "return": result.reward_sum,
        "length": result.length,
        "human_steps": result.human_steps,
        "takeovers": result.takeovers,
        "q": result.q,
        "force_peak_n": result.info.get("force_peak"),
        "truth": truth,
    }


def _arm(snapshot: Snapshot | None) -> dict[str, Any]:
    """Return a row's part about the arm; empty where there is none."""
    if snapshot is None:
        return {}
    return {"tick_us": snapshot.tick_us, "tank_j": snapshot.tank, "mode": int(snapshot.mode)}
