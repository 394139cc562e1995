"""The actor's way to a learner in another process: durable rows up, newest weights down."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from actor.link.ack_age import AckAge
from actor.link.client import Progress, parse_progress
from actor.link.risk_critic_relay import RiskCriticRelay
from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import LinkTimeout
from handrail.link.config import LinkAddresses, LinkConfig, resolve_link
from handrail.link.image_codec import AdaptiveCompressor, raw
from handrail.link.label_codec import encode_label
from handrail.link.rpc import RpcClient
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row, row_bytes
from handrail.link.weights_pubsub import WeightsSubscriber
from handrail.link.wire import Hello
from handrail.processes.exit_record import saving
from handrail.processes.stop import Wait
from handrail.run_folder import Run
from handrail.spec import EnvSpec
from handrail.storage.disk import DiskMonitor
from handrail.storage.spool import Spool
from handrail.transition import Transition
from learner.policy.policy import Policy
from learner.policy.weights import parse_meta, to_float32
from learner.risk.publish import TOPIC

log = logging.getLogger("actor")

KEEP_S = 30.0  # [s], for a learner that writes a checkpoint
UPDATE_PATIENCE = 600.0  # [s], for updates that don't come, compiling included
STOPPED_S = 0.3  # [s], for the learner to take the last rows of a run that was stopped
PATIENCE = 120.0  # [s], for a learner that may be compiling or coming back


class RemoteLearnerClient:
    """The real link: spool, stream, broadcast and requests of one run."""

    def __init__(
        self,
        run: Run,
        spec: EnvSpec,
        actor_id: str,
        max_lead: int,
        stop: Callable[[], bool],
        journal: bool = False,
        load_critic: Callable[[np.ndarray], int] | None = None,
        link: LinkAddresses | None = None,
        short: bool = True,
        say: Callable[[str], None] = log.info,
    ) -> None:
        """Open the link.

        Args:
            run: The run's folder and the names of its sockets.
            spec: Of the environment.
            actor_id: Name of this actor.
            max_lead: Training steps that acting may be ahead of training; 0: no bound.
            stop: Returns True once the run is to stop.
            journal: Also write an account of rows apart from the spool.
            load_critic: Takes a packed risk critic to the host and returns the version held there.
            link: Addresses and keys; None for the run's own local sockets.
            short: Shorten camera frames, without loss, where that pays.
            say: Takes a line about what is awaited.
        """
        self._spec, self._code = spec, AdaptiveCompressor() if short else raw
        self._actor = actor_id
        self._stop, self._say = stop, say
        self._max_lead = max_lead
        link = link or resolve_link(run, LinkConfig(), listens=False)
        self._spool = Spool(run.spool, actor=actor_id, task_hash=spec.hash, row=row_bytes(spec))
        self._sender = StreamSender(
            link.stream,
            self._spool,
            Hello.of(actor_id, self._spool.session, spec),
            keys=link.keys,
            learner=link.learner,
        )
        self._weights = WeightsSubscriber(
            link.broadcast, ("policy", "base", TOPIC), keys=link.keys, learner=link.learner
        )
        self._requests = RpcClient(link.request, keys=link.keys, learner=link.learner)
        self._journal = Journal(run.folder / "journal.txt") if journal else None
        self._critics = RiskCriticRelay(load_critic) if load_critic else None
        self._disk = DiskMonitor(run.folder)
        self._ack_age = AckAge(self._spool.depth, time.monotonic())
        self._weights_time = time.monotonic()  # when weights came last
        self._trained = 0
        self._base: tuple[dict[str, Any], Any] | None = None
        self._newest: tuple[dict[str, Any], Any] | None = None

    def send(self, row: Transition) -> None:
        """Spool a row; it is sent, and forgotten once the learner's store has it."""
        self._sender.check()
        self._ack_age.add(time.monotonic())
        blob = encode_row(row, self._spec, self._code)
        if self._journal is None:
            self._spool.append(blob)
            return
        digest = hashlib.sha256(blob).hexdigest()
        self._journal.write("intended", digest)
        self._spool.append(blob)
        self._spool.flush(10.0)
        self._journal.write("durable", digest)

    def label(self, episode: int, outcome: Outcome, success_reward: float = 1.0) -> None:
        """Say of an episode after the fact that it succeeded, failed, or is not to be trained on.

        The label takes the way of the rows: it is durable here, then in the learner's store.

        Args:
            episode: Its number within this actor's run.
            outcome: What is said.
            success_reward: Reward that a success has and a failure hasn't.

        Raises:
            StorageError: The spool can't take it.
        """
        self._ack_age.add(time.monotonic())
        self._spool.append(
            encode_label(EpisodeLabel(self._actor, episode, outcome, success_reward))
        )

    def progress(self) -> Progress:
        """Return what the learner holds once everything spooled has arrived.

        Raises:
            LinkTimeout: The learner didn't take the rows or answer in time.
        """
        what = "the learner to take the rows and say where the run stands"
        wait = Wait(what, PATIENCE, self._stop, self._say)
        while True:
            wait.check(f"; {self._sender.status().depth} rows wait in the spool")
            self._sender.check()
            if self._sender.status().depth == 0:
                try:
                    reply = self._requests.call("status", {}, timeout_s=2.0)
                    return parse_progress(reply)
                except LinkTimeout:
                    pass
            time.sleep(0.05)

    def refresh(self, policy: Policy) -> None:
        """Apply the newest base and weights, and pass the newest risk critic on to the host."""
        if self._critics is not None:
            self._critics.forward(self._weights.latest(TOPIC))
        self._base = self._weights.latest("base") or self._base
        self._newest = self._weights.latest("policy") or self._newest
        if self._base is None or self._newest is None:
            return
        meta, arrays = self._newest
        weights_meta = parse_meta(meta)
        if weights_meta.base_version != self._base[0].get("base_version"):
            return  # the base that these weights edit is still on its way
        policy.load(meta, to_float32({**arrays, **self._base[1]}))
        self._trained = weights_meta.trained_steps
        self._weights_time = time.monotonic()
        self._newest = None

    def resend_critic(self) -> None:
        """Hand the risk critic on again: the host is another one than before."""
        if self._critics is not None:
            self._critics.resend()

    def may_step(self, env_steps: int) -> bool:
        """Return whether the learner's training is within the allowed lead of these steps."""
        return not self._max_lead or env_steps - self._trained < self._max_lead

    def wait_for_updates(self, policy: Policy, env_steps: int) -> None:
        """Wait for every update that these steps are owed, and apply the weights.

        Raises:
            Stopped: The run is asked to stop meanwhile.
            LinkTimeout: No update came for long.
        """
        wait = Wait("the learner's last updates", UPDATE_PATIENCE, self._stop, self._say)
        while self._trained < env_steps:
            wait.check(f"; it is {env_steps - self._trained} steps behind")
            self._sender.check()
            time.sleep(0.02)
            before = self._trained
            self.refresh(policy)
            if self._trained > before:
                wait.again()

    def keep(self) -> None:
        """Have the learner write a checkpoint.

        Raises:
            TrainingFailed: Its weights are not finite.
            LinkTimeout: It doesn't answer in time.
        """
        self._requests.call("checkpoint", {}, timeout_s=KEEP_S)

    def status(self) -> dict[str, Any]:
        """Return what waits for the learner and for how long, and the state of the connection.

        Keys: spool_depth [rows] and spool_bytes [B] wait, the oldest for spool_age [s];
        flying_bytes [B] of them are on the way; ack_lag [s] is how long the learner took last;
        weights_age [s] is how long ago new weights came; disk_free_bytes and disk_hours are left.
        """
        status, now = self._sender.status(), time.monotonic()
        critic = {} if self._critics is None else self._critics.status()
        disk, alarm = self._disk.sample()
        if alarm:
            log.warning("%s", alarm)
        return {
            "spool_depth": status.depth,
            "spool_bytes": self._spool.depth_bytes,
            "spool_age": self._ack_age.age(status.depth, now),
            "flying_bytes": status.unacked_bytes,
            "ack_lag": status.lag,
            "connected": status.connected,
            "weights_age": now - self._weights_time,
            "disk_free_bytes": disk.free,
            "disk_hours": disk.hours,
            **critic,
        }

    def close(self, timeout_s: float = 5.0) -> None:
        """Make everything durable, give the learner a moment to take it, and let go."""
        with saving():
            self._spool.flush(timeout_s)
        deadline = time.monotonic() + (min(timeout_s, STOPPED_S) if self._stop() else timeout_s)
        while self._sender.status().depth and time.monotonic() < deadline:
            time.sleep(0.02)
        self._sender.close()
        self._weights.close()
        self._requests.close()
        self._spool.close()


class Journal:
    """An account of rows apart from the spool, to audit the link with: one digest a line.

    A digest is "intended" before its row goes to the spool and "durable" after the spool has synced
    it: the store must hold every durable row once, and no row that was not intended.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, state: str, digest: str) -> None:
        """Append a line and sync it."""
        os.write(self._fd, f"{state} {digest}\n".encode())
        os.fdatasync(self._fd)
