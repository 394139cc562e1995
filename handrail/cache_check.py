"""Files of compiled code that a power cut left short or full of zeros: found and thrown away.

Neither numba nor jax syncs what it writes, and neither gets over such a file by itself: numba stops
at each start, jax warns at each start and compiles anew for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

log = logging.getLogger("handrail")

SEALED = ".sealed"  # in the names of numba's files that end in a digest of what stands before it
_DIGEST = 32  # [bytes]
_CHECKED = ".checked"  # its time tells when jax's files were looked at last, its text in which boot
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_RECENT_S = 2.0  # [s], so old a file may still be on its way out of another process
_ZSTD = b"\x28\xb5\x2f\xfd"


def seal(body: bytes) -> bytes:
    """Return a file's content with a digest behind it."""
    return body + hashlib.sha256(body).digest()


def is_sealed(content: bytes) -> bool:
    """Return whether a file's content ends in the digest of what stands before it."""
    return hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


def damaged(environment: Mapping[str, str]) -> list[Path]:
    """Return the damaged files in the caches that `use_caches` has set.

    Args:
        environment: Environment variables.
    """
    found: list[Path] = []
    if numba := environment.get("NUMBA_CACHE_DIR"):
        sealed = Path(numba).rglob(f"*{SEALED}.*")
        found += [path for path in sealed if not is_sealed(path.read_bytes())]
    if jax := environment.get("JAX_COMPILATION_CACHE_DIR"):
        found += [path for path in _jax_files(Path(jax)) if not _is_whole(path)]
    return found


def discard_damaged_jax(folder: Path) -> list[Path]:
    """Delete jax's damaged files; return which they were.

    Files that were there when it was last called in this boot are not looked at again.

    Args:
        folder: jax's compilation cache; nothing happens where there is none.
    """
    if not folder.is_dir():
        return []
    now, stamp = time.time(), folder / _CHECKED
    try:
        boot = _BOOT.read_text(encoding="ascii")
        since = stamp.stat().st_mtime if stamp.read_text(encoding="ascii") == boot else 0.0
    except (OSError, ValueError):
        boot, since = "", 0.0
    gone = []
    for path in _jax_files(folder):
        try:
            written = path.stat().st_mtime
            if since - _RECENT_S < written <= now - _RECENT_S and not _is_whole(path):
                path.unlink()
                gone.append(path)
        except OSError:  # another process was quicker, or the folder is not ours
            continue
    if gone:
        log.warning(
            "%d files of compiled code in %s were damaged, as by a power cut; they are deleted and "
            "compiled again", len(gone), folder,
        )  # fmt: skip
    with contextlib.suppress(OSError):
        stamp.write_text(boot, encoding="ascii")
        os.utime(stamp, (now, now))
    return gone


def _jax_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKED)


def _is_whole(path: Path) -> bool:
    """Return whether a file of jax's is whole, as far as it can be told."""
    content = path.read_bytes()
    if not path.name.endswith("-cache"):  # of XLA's own, beside the compiled code
        return bool(content) and content[-1] != 0
    try:
        import zstandard
    except ImportError:  # the doctor must be able to say that it is missing
        return True
    try:
        if content.startswith(_ZSTD):
            zstandard.ZstdDecompressor().decompress(content)
        else:
            zlib.decompress(content)
    except (zstandard.ZstdError, zlib.error):
        return False
    return True
