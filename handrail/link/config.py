"""Table [link]: where a run's learner and actors find each other, and by which keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from handrail.config import check
from handrail.keys.host_keys import HostKeys
from handrail.link.endpoint import is_loopback
from handrail.process import KEYS_ENV
from handrail.run_folder import Run

FLOWS = ("stream", "broadcast", "request")


@dataclass(frozen=True)
class LinkConfig:
    """Where learner and actors meet; all on this machine, by local sockets, unless it is given."""

    address: str = ""  # the learner's host as the actors reach it
    bind: str = ""  # the learner's interface; "" for `address` on this machine, else for all
    port: int = 5770  # of the stream; broadcast and request have the next two
    keys: str = ""  # folder of this host's keys; "" for ~/.config/handrail/keys
    learner: str = "learner"  # name of the learner's host on the actors' lists
    short: bool = True  # camera frames travel and are stored shortened, without loss
    half: bool = False  # weights travel with 16 bits each: half the bytes, rounded by up to 2^-11

    def __post_init__(self) -> None:
        check(0 < self.port < 65534, "port", self.port, "from 1 to 65533")
        for name in ("address", "bind"):
            value = getattr(self, name)
            good = not any(c in value for c in "/ \t\n;@")
            check(good, name, value, "a host's name or address, without tcp:// and port")


class LinkAddresses(NamedTuple):
    """What the sockets of a run are opened with."""

    stream: str
    broadcast: str
    request: str
    keys: HostKeys | None  # None where all is on this machine and no keys are asked for
    learner: str  # name of the learner's host on the list


def resolve_link(run: Run, config: LinkConfig, listens: bool) -> LinkAddresses:
    """Return one side's addresses and keys.

    Args:
        run: The run; names the local sockets.
        config: Table [link].
        listens: True on the learner.

    Raises:
        ConfigError: Another host is named and this one's keys are missing or unusable.
    """
    address, bind = config.address, config.bind
    if not address and not bind:
        stream, broadcast, request = (run.endpoint(flow) for flow in FLOWS)
        return LinkAddresses(stream, broadcast, request, None, config.learner)
    given = os.environ.get(KEYS_ENV) or config.keys
    keys = None
    if given or not (is_loopback(address or bind) and is_loopback(bind or address)):
        keys = HostKeys(Path(given) if given else None)
    host = address or bind
    if listens:
        host = bind or (address if is_loopback(address) else "*")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    stream, broadcast, request = (f"tcp://{host}:{config.port + i}" for i in range(len(FLOWS)))
    return LinkAddresses(stream, broadcast, request, keys, config.learner)
