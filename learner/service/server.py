"""The learner's process: rows in, weights out, and a store that outlives any crash.

    rows → durable store → ack → trainer → updates → broadcast of weights

The trainer knows nothing of sockets and files; this file is its edge. A killed learner comes back
to the checkpoint it left, reads the rows it had seen from the store and the rest from the actors.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Any

from handrail.config import from_dict
from handrail.link.config import LinkConfig, resolve_link
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcServer
from handrail.link.weights_pubsub import WeightsPublisher
from handrail.metrics import Metrics
from handrail.processes.exit_record import RUNNING, record_state
from handrail.processes.stop import Stopped
from handrail.risk_critic.file import critic_path
from handrail.risk_critic.format import version_of
from handrail.run_folder import Run
from handrail.spec import EnvSpec
from handrail.storage.disk import DiskMonitor
from learner.config import BaseConfig, LearnerConfig
from learner.policy.weights import split_base, to_float16
from learner.risk.publish import TOPIC, CriticWatch
from learner.service.health import Health, refusals
from learner.service.progress import RunProgress
from learner.service.restore import ingest, restore
from learner.store.admin.label import store_waiting_labels
from learner.store.checkpoint import Checkpoints
from learner.store.store import Store
from learner.trainer import Trainer

log = logging.getLogger("learner")

STATUS_PERIOD = 1.0  # [s], between rows of metrics
PUBLISH_PERIOD = 0.1  # [s], between publications while the actors wait for none
IDLE_WAIT = 0.02  # [s], how long to wait for rows when no update is due
SLICE = 10  # compiled calls between looks at sockets, so that nobody waits long


class Server:
    """Owns the trainer, the store, the sockets and the checkpoints of one run."""

    def __init__(self, run: Run, config: dict[str, Any], spec: EnvSpec) -> None:
        plan = config["run"]
        self.demos = int(plan["demos"])
        self.publish_steps = int(plan["publish_steps"])
        self.config = from_dict(LearnerConfig, config.get("learner", {}), "learner")
        base = from_dict(BaseConfig, config.get("base", {}), "base")
        wanted = from_dict(LinkConfig, config.get("link", {}), "link")
        link = resolve_link(run, wanted, listens=True)
        self._half = wanted.half
        self.metrics = Metrics(run, "learner")
        self.trainer = Trainer(self.config, base, spec, int(plan["seed"]))
        self.run_progress = RunProgress(self.trainer.log)
        self.checkpoints = Checkpoints(run.checkpoints)
        self.store = Store(run.store, spec)
        restore(self.trainer, self.run_progress, self.store, self.checkpoints)
        for stored in store_waiting_labels(run, spec, self.store):
            ingest(self.trainer, self.run_progress, stored)
        self._disk = DiskMonitor(run.folder)
        if self.run_progress.rows:
            log.info("back at row %d, update %d", self.run_progress.rows, self.trainer.updates)
        self.receiver = StreamReceiver(link.stream, self.store, spec, link.keys)
        self.broadcast = WeightsPublisher(link.broadcast, link.keys)
        handlers = {"status": self._status, "checkpoint": self._checkpoint_on_request}
        self.requests = RpcServer(link.request, handlers, link.keys)
        self._critic = CriticWatch(critic_path(run.folder))
        self._base_published = -1
        self._published_steps = -1
        self._publish_time = 0.0
        self._status_time = 0.0
        self._critic_time = -math.inf
        self._health = Health(self.trainer, self.checkpoints, self.metrics)

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop, then take what is on the way and write a checkpoint."""
        record_state(RUNNING)
        if self.trainer.fitted:
            self._publish()
        while not stop.is_set():
            self.requests.poll()
            self._publish_critic_if_due()
            self._ingest(0.0 if self.trainer.due() else IDLE_WAIT)
            if not self.trainer.fitted:
                if self.run_progress.demos >= self.demos:
                    self._fit_base(stop)
                continue
            if self.trainer.due():
                limit = SLICE * self.config.actor_every
                self.trainer.advance(limit, report=False)
            self._publish_if_due()
            self._report_if_due()
        self._ingest(0.0)
        self.metrics.write("learner", **counts_of(self.trainer))
        self._health.checkpoint()

    def close(self) -> None:
        """Close sockets and files."""
        self.receiver.close()
        self.broadcast.close()
        self.requests.close()
        self.store.close()
        self.metrics.close()

    def _ingest(self, timeout: float) -> None:
        for stored in self.receiver.arrivals(timeout):
            ingest(self.trainer, self.run_progress, stored)

    def _fit_base(self, stop: threading.Event) -> None:
        def report(row: dict[str, float]) -> None:
            if stop.is_set():
                raise Stopped
            self.requests.poll()
            self.metrics.write("base", **row)

        log.info("training the base on %d demonstrations", self.run_progress.demos)
        summary = self.trainer.fit_base(report)
        log.info("base trained: %s", summary)
        self._health.checkpoint()
        self._publish()

    def _publish_if_due(self) -> None:
        steps = self._trained_steps()
        waited = time.monotonic() - self._publish_time
        if steps - self._published_steps >= self.publish_steps or (
            steps != self._published_steps and waited > PUBLISH_PERIOD
        ):
            self._publish()

    def _publish(self) -> None:
        before = self.trainer.publication.decision
        meta, arrays = self.trainer.packet()
        base, rest = split_base(arrays)
        if self._half:
            rest = to_float16(rest)
        if meta["base_version"] != self._base_published:
            version = {"base_version": meta["base_version"]}
            self.broadcast.publish("base", version, base, take_ownership=True)
            self._base_published = meta["base_version"]
        steps = self._trained_steps()
        # A packet is made of copies, so that it can be given away.
        self.broadcast.publish(
            "policy", {**meta, "trained_steps": steps}, rest, take_ownership=True
        )
        self._published_steps, self._publish_time = steps, time.monotonic()
        self._health.check_publication(before)

    def _publish_critic_if_due(self) -> None:
        now = time.monotonic()
        if now - self._critic_time < STATUS_PERIOD:
            return
        self._critic_time = now
        critic = self._critic.poll()
        if critic is not None:
            version = version_of(critic)
            log.info("risk critic version %d is published", version)
            self.broadcast.publish(TOPIC, {"version": version}, {"critic": critic})

    def _trained_steps(self) -> int:
        return self.trainer.env_steps - math.ceil(self.trainer.due() / self.config.utd)

    def _report_if_due(self) -> None:
        now = time.monotonic()
        if now - self._status_time >= STATUS_PERIOD:
            self._status_time = now
            self.metrics.write("learner", **metrics_row(self.trainer), **self._disk_left())
        self._health.checkpoint_if_due()

    def _disk_left(self) -> dict[str, float]:
        disk, alarm = self._disk.sample()
        if alarm:
            log.warning("%s", alarm)
            self.metrics.write("event", text=alarm, env_steps=self.trainer.env_steps)
        return {"disk_free_bytes": disk.free, "disk_hours": disk.hours}

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            **self.run_progress.counts(),
            "updates": self.trainer.updates,
            "due": self.trainer.due(),
            "phase": self.trainer.phase,
            "version": self.trainer.version,
        }

    def _checkpoint_on_request(self, _: dict[str, Any]) -> dict[str, Any]:
        self._health.checkpoint()
        return {"updates": self.trainer.updates}


def metrics_row(trainer: Trainer) -> dict[str, Any]:
    """Return a row of metrics about a trainer."""
    return {**counts_of(trainer), **trainer.metrics(), **trainer.diagnose()}


def counts_of(trainer: Trainer) -> dict[str, Any]:
    """Return how far a trainer is, which takes no time to say."""
    return {
        "env_steps": trainer.env_steps,
        "updates": trainer.updates,
        "phase": trainer.phase,
        "store_rows": trainer.rows,
        "version": trainer.version,
        "refusals": refusals(trainer),
    }
