"""The keys of this host while it runs: what the files say now, read again when they change."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import NamedTuple

from handrail.errors import ConfigError
from handrail.keys import files

log = logging.getLogger(__name__)

REREAD_S = 0.2  # [s], between looks at the files at most


class KeySnapshot(NamedTuple):
    """What the files say at one time."""

    pair: files.KeyPair
    names: dict[str, str]  # public key -> name of the host that it belongs to

    def keys_of(self, name: str) -> list[str]:
        """Return the public keys of a host, in the list's order."""
        return [key for key, owner in self.names.items() if owner == name]


class HostKeys:
    """This host's pair and list, for any number of threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the files.

        Args:
            folder: Where they are; None for the user's own.

        Raises:
            ConfigError: A file is missing, damaged, or others may read or change it.
        """
        self.folder = folder or files.default_folder()
        self._lock = threading.Lock()
        self._stamps = files.file_stamps(self.folder)
        self._read_at = time.monotonic()
        self._snapshot = KeySnapshot(files.read_pair(self.folder), files.read_allowed(self.folder))

    def snapshot(self) -> KeySnapshot:
        """Return what the files say; the same object for as long as they say the same.

        A file that has become unusable lets nobody in until it is put right: rows wait in the
        actors' spools meanwhile, so that being strict costs time and no data.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._read_at < REREAD_S:
                return self._snapshot
            self._read_at = now
            stamps = files.file_stamps(self.folder)
            if stamps == self._stamps:
                return self._snapshot
            self._stamps = stamps
            try:
                snapshot = KeySnapshot(
                    files.read_pair(self.folder), files.read_allowed(self.folder)
                )
            except ConfigError as error:
                log.error("nobody is let in: %s", error)
                snapshot = KeySnapshot(self._snapshot.pair, {})
            if snapshot != self._snapshot:
                self._snapshot = snapshot
            return self._snapshot
