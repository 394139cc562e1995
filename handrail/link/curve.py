"""The two ends of a connection that keys guard: server on the learner, client on the actor.

Without keys both do what `bind` and `connect` do, for addresses on this machine only. With keys the
connection is encrypted and both ends prove who they are (CURVE): the server lets in the hosts on
this host's list, the client talks to the host on its list that is named as the learner.

What `handrail keys` changes acts at the next `refresh`, which costs a look at a clock in between.
A host that left the list is cut off at once: the server drops all connections and listens again, so
that everybody proves himself anew, and what the host had sent before is not taken. The others are
back within a second; what they had on the way is sent again, because nothing was acknowledged.
"""

from __future__ import annotations

import logging
import time

import zmq

from handrail.errors import ConfigError
from handrail.keys.host_keys import HostKeys
from handrail.link.endpoint import bind, check_endpoint, connect
from handrail.link.zap import DOMAIN, ZapAuthenticator

log = logging.getLogger(__name__)

_HANDSHAKE_MS = 3000  # [ms], after which a client that has not proved itself is cut off
_RETRY_MS = (250, 2000)  # [ms], a client's shortest and longest pause between attempts
_RELISTEN_S = 5.0  # [s], within which an address that was given up is free again
_MAX_LEARNER_KEYS = 2  # [-], the old one and the new one


class CurveServer:
    """Binds a socket; with keys, says who sent what and keeps out who may not come in.

    All calls are made by the thread that uses the socket.
    """

    def __init__(self, sock: zmq.Socket, endpoint: str, keys: HostKeys | None = None) -> None:
        """Listen.

        Args:
            sock: Not listening yet.
            endpoint: Address to listen at; TCP where there are keys.
            keys: Of this host; None to let in whoever is on this machine.

        Raises:
            ConfigError: The address is not allowed or in use, or the keys are unusable.
        """
        check_endpoint(endpoint, keyed=keys is not None)
        self._sock, self._endpoint, self._keys = sock, endpoint, keys
        if keys is None:
            bind(sock, endpoint)
            return
        _check_tcp(endpoint)
        self._snapshot = keys.snapshot()
        self._authenticator = ZapAuthenticator(sock, keys)
        sock.handshake_ivl = _HANDSHAKE_MS
        sock.zap_domain = DOMAIN
        sock.zap_enforce_domain = True  # without an answer nobody comes in
        sock.curve_server = True
        try:
            self._listen(0.0)
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Act on what `handrail keys` has changed."""
        if self._keys is None:
            return
        snapshot, before = self._keys.snapshot(), self._snapshot
        if snapshot is before:
            return
        self._snapshot = snapshot
        if snapshot.pair == before.pair and before.names.items() <= snapshot.names.items():
            return  # hosts were added: nobody needs to be asked again
        log.info("keys have changed: every host at %s is asked for its key again", self._endpoint)
        self._sock.unbind(self._sock.getsockopt_string(zmq.LAST_ENDPOINT))
        self._authenticator.reset_counts()
        self._listen(_RELISTEN_S)

    def sender(self, frame: zmq.Frame) -> str | None:
        """Return the name of the host that sent a frame, None if it may not send any longer.

        Args:
            frame: As received; without keys the name is "".
        """
        if self._keys is None:
            return ""
        try:
            key = frame.get("User-Id")
        except zmq.ZMQError:
            return None
        return self._snapshot.names.get(key) if isinstance(key, str) else None

    def close(self) -> None:
        """Stop listening; the socket itself is the caller's to close, after this."""
        if self._keys is not None:
            self._authenticator.close()

    def _listen(self, patience_s: float) -> None:
        self._sock.curve_secretkey = bytes.fromhex(self._snapshot.pair.secret)
        end = time.monotonic() + patience_s
        while True:
            try:
                bind(self._sock, self._endpoint, keyed=True)
                return
            except ConfigError:  # libzmq frees an address some time after `unbind`
                if time.monotonic() >= end:
                    raise
                time.sleep(0.01)


class CurveClient:
    """Connects a socket; with keys, proves who we are to a learner that proves who it is.

    All calls are made by the thread that uses the socket.
    """

    def __init__(
        self,
        sock: zmq.Socket,
        endpoint: str,
        keys: HostKeys | None = None,
        learner: str = "learner",
    ) -> None:
        """Connect; the socket keeps trying by itself while nobody listens.

        Args:
            sock: Not connected yet.
            endpoint: The learner's address; TCP where there are keys.
            keys: Of this host; None for an address on this machine.
            learner: The learner's name on this host's list.

        Raises:
            ConfigError: The address is not allowed, or the learner is not on the list.
        """
        check_endpoint(endpoint, keyed=keys is not None)
        self._sock, self._endpoint, self._keys = sock, endpoint, keys
        self._learner = learner
        if keys is None:
            connect(sock, endpoint)
            return
        _check_tcp(endpoint)
        self._snapshot = keys.snapshot()
        if not self._snapshot.keys_of(learner):
            raise ConfigError(
                f"the list in {keys.folder} has no host {learner!r}, whom this host is to trust as "
                f"the learner; run: handrail keys allow {learner} KEY, with the key that "
                "`handrail keys show` prints there"
            )
        sock.ipv6 = "[" in endpoint
        sock.reconnect_ivl, sock.reconnect_ivl_max = _RETRY_MS
        sock.handshake_ivl = _HANDSHAKE_MS
        self._connected: dict[str, str] = {}
        self._connect()

    def refresh(self) -> None:
        """Act on what `handrail keys` has changed."""
        if self._keys is None:
            return
        snapshot, before = self._keys.snapshot(), self._snapshot
        if snapshot is before:
            return
        self._snapshot = snapshot
        wanted = self._wanted()
        for key in list(self._connected):
            if snapshot.pair != before.pair or key not in wanted:
                self._sock.disconnect(self._connected.pop(key))
        self._connect()

    def hint(self) -> str:
        """Return what else may be wrong where nobody answers, to end a message with."""
        if self._keys is None:
            return ""
        return (
            f", or it doesn't list this host's key ({self._snapshot.pair.public[:8]}...), or it "
            "has another key than this host lists; compare `handrail keys show` on both"
        )

    def _connect(self) -> None:
        pair = self._snapshot.pair
        self._sock.curve_publickey = bytes.fromhex(pair.public)
        self._sock.curve_secretkey = bytes.fromhex(pair.secret)
        for key in self._wanted():
            if key not in self._connected:
                self._sock.curve_serverkey = bytes.fromhex(key)
                self._connected[key] = address = self._free_address()
                self._sock.connect(address)

    def _wanted(self) -> list[str]:
        return self._snapshot.keys_of(self._learner)[-_MAX_LEARNER_KEYS:]  # those listed last

    def _free_address(self) -> str:
        """Return a spelling of the address that no connection uses.

        libzmq takes two connections to one address for a mistake, and while a learner changes its
        key there is one for the old and one for the new, of which only one can succeed.
        """
        any_source = "[::]:0" if "[" in self._endpoint else "0.0.0.0:0"
        second = self._endpoint.replace("tcp://", f"tcp://{any_source};", 1)
        return second if self._endpoint in self._connected.values() else self._endpoint


def _check_tcp(endpoint: str) -> None:
    if not endpoint.startswith("tcp://"):
        raise ConfigError(f"keys are for addresses like tcp://host:port, got {endpoint!r}")
