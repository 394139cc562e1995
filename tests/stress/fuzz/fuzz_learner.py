"""A learner in a process of its own, whose open ports are given damaged input.

An input is sent; what came of it shows at the end of a batch, when an actor that behaves has to get
its rows into the store, its weights and its answers, and the store must hold whole rows only.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import zmq
from fuzz_messages import BODY, SPEC, make_row, sealed
from fuzz_mutate import Parts
from fuzz_target import Target, hold, readable
from made_keys import free_ports

from handrail.errors import Error
from handrail.keys import files as key_files
from handrail.keys.host_keys import HostKeys
from handrail.link import wire
from handrail.link.rpc import RpcClient
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.weights_pubsub import WeightsSubscriber
from handrail.storage.spool import Spool
from handrail.transition import Transition
from learner.store.store import Store

WAIT_S = 20.0  # [s], for an actor that behaves


class Learner:
    """The process under fire, and an actor that behaves."""

    def __init__(self, folder: Path, keyed: bool) -> None:
        self.folder, self.addresses = folder, free_ports()
        self.host: HostKeys | None = None
        arguments = [str(folder), *self.addresses]
        if keyed:
            sides = {"learner": folder / "learner", "robot": folder / "robot"}
            pairs = {name: key_files.new_pair() for name in sides}
            for name, other in (("learner", "robot"), ("robot", "learner")):
                key_files.write_pair(sides[name], key_files.HOST, pairs[name])
                key_files.write_allowed(sides[name], {pairs[other].public: other})
            self.host, self.learner_key = HostKeys(sides["robot"]), pairs["learner"].public
            arguments.append(str(sides["learner"]))
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fuzz_server.py")), *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        hold(self.process.stdout.readline() == "ready\n", f"no learner: {self.words()}")
        self.spool = Spool(folder / "spool.db", retain_bytes=1 << 20)
        hello = wire.Hello.of("honest", self.spool.session, SPEC)
        stream, _, request = self.addresses
        self.sender = StreamSender(stream, self.spool, hello, keys=self.host, answer_s=2.0)
        self.requests = RpcClient(request, keys=self.host)
        self.blob = encode_row(make_row(Random(7), 0), SPEC)
        self.seen = self.refused = 0
        self.begin = self.memory()

    def check(self) -> dict[str, int]:
        """Return rows taken and messages refused since the last check.

        Raises:
            Exception: The learner is gone, or doesn't serve the actor that behaves.
        """
        hold(self.process.poll() is None, f"the learner died: {self.words()}")
        self.spool.append(self.blob)
        try:
            self.sender.drain(WAIT_S)
        except Error as error:
            raise RuntimeError(f"an actor can't send: {self.words() or error}") from None
        status = self.requests.call("status", timeout_s=WAIT_S)
        with WeightsSubscriber(self.addresses[1], ("policy",), keys=self.host) as weights:
            until = time.monotonic() + WAIT_S
            while weights.latest("policy") is None:
                hold(time.monotonic() < until and not weights.refused, "no weights came")
                time.sleep(0.002)
        with Store(self.folder / "store.db", SPEC, readonly=True) as store:
            for stored in store.records(self.seen):
                if isinstance(stored.row, Transition):
                    stored.row.validate(SPEC)
        taken = status["cursor"] - self.seen - 1
        refused, self.refused = status["refused"] - self.refused, status["refused"]
        self.seen = status["cursor"]
        return {"accepted": taken, "refused": refused}

    def memory(self) -> int:
        """Return the most memory that the process has used [B]."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])

    def words(self) -> str:
        """Return the last that the process said."""
        self.log.seek(0)
        return self.log.read()[-1500:]

    def close(self) -> None:
        """End it all."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        for owner in ("sender", "requests", "spool"):
            if hasattr(self, owner):
                getattr(self, owner).close()


class Port(Target):
    """Targets that share one way to attack a learner."""

    keyed = False
    deadline_s = 10.0
    kind = zmq.DEALER
    flow = 0  # of stream, broadcast, request

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.context = zmq.Context()
        self.learner: Learner | None = None

    def begin(self) -> Learner:
        """Return a learner that lives, and connect to it."""
        if self.learner is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700)
            self.learner = Learner(self.folder, self.keyed)
            self.learner.check()
            self.connect(self.learner)
        return self.learner

    def connect(self, learner: Learner) -> None:
        """Connect what sends inputs."""
        self.sock = self.context.socket(self.kind)
        self.sock.linger, self.sock.sndtimeo = 0, int(1e3 * WAIT_S)
        if learner.host is not None:
            pair = learner.host.snapshot().pair
            self.sock.curve_publickey = bytes.fromhex(pair.public)
            self.sock.curve_secretkey = bytes.fromhex(pair.secret)
            self.sock.curve_serverkey = bytes.fromhex(learner.learner_key)
        self.sock.connect(learner.addresses[self.flow])

    def passed(self, parts: Parts) -> bool:
        return sealed(parts[0]) and readable(msgspec.msgpack.decode, parts[0][BODY:])

    def take(self, parts: Parts) -> Any:
        self.begin()
        self.sock.send_multipart(parts)
        with contextlib.suppress(zmq.Again):
            while True:
                self.sock.recv_multipart(zmq.NOBLOCK)

    def verify(self, parts: Parts, value: Any) -> None:
        """What was sent shows in `settle`."""

    def settle(self) -> dict[str, int]:
        try:
            return self.begin().check()
        except Exception:
            self.stop()  # the next batch has a new one
            raise

    def peak_growth(self) -> int:
        return 0 if self.learner is None else self.learner.memory() - self.learner.begin

    def stop(self) -> None:
        """End the learner and what is connected to it."""
        if self.learner is not None:
            self.learner.close()
            self.learner = None
        if hasattr(self, "sock"):
            self.sock.close(linger=0)

    def close(self) -> None:
        self.stop()
        self.context.term()
