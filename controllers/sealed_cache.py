"""numba's cache on disk with a digest behind each file, so that a damaged one is never run.

numba writes without syncing and reads without checking: after a power cut a file may be short,
which stopped every start, or hold pages of zeros, which would be run as code at 1 kHz.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

from handrail.cache_check import SEALED, is_sealed, seal

log = logging.getLogger("handrail")


class SealedFile(IndexDataCacheFile):
    """Index and code of one function; what isn't whole is deleted, and compiled again."""

    def __init__(self, cache_path: str, filename_base: str, source_stamp: Any) -> None:
        super().__init__(cache_path, filename_base + SEALED, source_stamp)

    def _load_index(self) -> dict[Any, str]:
        return super()._load_index() if _discard_damaged(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        _discard_damaged(self._data_path(name))
        return super()._load_data(name)  # a file that is gone is a miss

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        body = io.BytesIO()
        yield body
        with super()._open_for_write(filepath) as file:
            file.write(seal(body.getvalue()))


class SealedCache(FunctionCache):
    """A function's cache in sealed files."""

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        self._cache_file = SealedFile(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )


def _discard_damaged(path: str) -> bool:
    """Return whether a file is whole; delete it where it isn't."""
    try:
        if is_sealed(Path(path).read_bytes()):
            return True
    except FileNotFoundError:
        return False
    _announce(Path(path).parent.parent)
    Path(path).unlink(missing_ok=True)
    return False


@functools.cache
def _announce(folder: Path) -> None:
    log.warning(
        "compiled control code in %s is damaged, as by a power cut; it is compiled again, which "
        "takes a minute", folder,
    )  # fmt: skip
