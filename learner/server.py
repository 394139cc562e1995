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

from handrail.transport import Broadcaster, RequestServer, StreamReceiver
from learner.checkpoint import Checkpoints
from learner.config import BaseConfig
from learner.presets import learner_config
from learner.trainer import Trainer

from handrail.config import from_dict
from handrail.metrics import Metrics
from handrail.runs import Run
from handrail.spec import EnvSpec
from learner.restore import restore
from learner.store import Store

log = logging.getLogger("learner")

STATUS_PERIOD = 1.0  # [s], between rows of metrics
CHECKPOINT_PERIOD = 30.0  # [s]
PUBLISH_PERIOD = 0.1  # [s], between publications while the actors wait for none
IDLE_WAIT = 0.02  # [s], how long to wait for rows when no update is due


class Server:
    """Owns the trainer, the store, the sockets and the checkpoints of one run."""

    def __init__(self, run: Run, config: dict[str, Any], spec: EnvSpec) -> None:
        self.metrics = Metrics(run, "learner")
        plan = config.get("run", {})
        self.demos = int(plan["demos"])
        self.publish_steps = int(plan["publish_steps"])
        self.learner_config = learner_config(config.get("learner", {}))
        self.trainer = Trainer(
            self.learner_config,
            from_dict(BaseConfig, config.get("base", {}), "base"),
            spec,
            int(plan["seed"]),
        )
        self.store = Store(run.store, spec)
        self.checkpoints = Checkpoints(run.checkpoints)
        self.cursor = restore(self.trainer, self.store, self.checkpoints)
        if self.cursor:
            log.info("back at row %d, update %d", self.cursor, self.trainer.updates)
        self.receiver = StreamReceiver(run.endpoint("stream"), self.store, spec)
        self.broadcast = Broadcaster(run.endpoint("broadcast"))
        self.requests = RequestServer(
            run.endpoint("request"),
            {"status": self._status, "checkpoint": self._checkpoint_on_request},
        )
        self._published_updates = -1
        self._published_steps = -1
        self._publish_time = 0.0
        self._status_time = 0.0
        self._checkpoint_time = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop, then take what is on the way and write a checkpoint."""
        if not self.trainer.needs_base:
            self._publish_base()
        while not stop.is_set():
            self.requests.poll()
            self._ingest(0.0 if self.trainer.due() else IDLE_WAIT)
            if self.trainer.needs_base:
                if self.trainer.demos >= self.demos:
                    self._fit_base()
                continue
            due = self.trainer.due()
            if due:
                self.trainer.advance(min(due, self.learner_config.utd * self.publish_steps))
            self._publish_if_due()
            self._report_if_due()
        self._ingest(0.0)
        self.checkpoint()

    def close(self) -> None:
        """Close sockets and files."""
        self.receiver.close()
        self.broadcast.close()
        self.requests.close()
        self.store.close()
        self.metrics.close()

    def checkpoint(self) -> None:
        """Write everything that a resumed run needs to go on as if nothing had happened."""
        if self.trainer.needs_base:
            return
        self.checkpoints.save(
            self.trainer.updates,
            self.trainer.state_dict(),
            {**self.trainer.checkpoint_meta(), "cursor": self.cursor},
        )
        self._checkpoint_time = time.monotonic()

    def _ingest(self, timeout: float) -> None:
        for cursor, row in self.receiver.poll(timeout):
            self.trainer.add(row)
            self.cursor = cursor

    def _fit_base(self) -> None:
        log.info("training the base on %d demonstrations", self.trainer.demos)
        self.metrics.write("phase", phase="base", env_steps=self.trainer.env_steps)
        summary = self.trainer.fit_base(lambda **row: self.metrics.write("base", **row))
        log.info("base trained: %s", summary)
        self.checkpoint()
        self._publish_base()

    def _publish_base(self) -> None:
        self.broadcast.publish("base", *self.trainer.base_packet())
        self._publish()

    def _publish_if_due(self) -> None:
        steps = self._trained_steps()
        if steps - self._published_steps >= self.publish_steps or (
            steps != self._published_steps
            and time.monotonic() - self._publish_time > PUBLISH_PERIOD
        ):
            self._publish()

    def _publish(self) -> None:
        meta, arrays = self.trainer.packet()
        steps = self._trained_steps()
        self.broadcast.publish("policy", {**meta, "trained_steps": steps}, arrays)
        self._published_steps, self._publish_time = steps, time.monotonic()

    def _trained_steps(self) -> int:
        owed = math.ceil(self.trainer.due() / self.learner_config.utd)
        return self.trainer.env_steps - owed

    def _report_if_due(self) -> None:
        now = time.monotonic()
        if now - self._status_time >= STATUS_PERIOD:
            self._status_time = now
            self.metrics.write("learner", store_rows=self.cursor, **self.trainer.report())
        if now - self._checkpoint_time >= CHECKPOINT_PERIOD:
            self.checkpoint()

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "demos": self.trainer.demos,
            "env_steps": self.trainer.env_steps,
            "episodes": self.trainer.episodes,
            "updates": self.trainer.updates,
            "rows": self.cursor,
        }

    def _checkpoint_on_request(self, _: dict[str, Any]) -> dict[str, Any]:
        self.checkpoint()
        return {"updates": self.trainer.updates}
