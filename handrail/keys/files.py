"""A host's key files: its own pair and the list of those that it lets in.

    host.key    the pair that this host proves itself by, mode 0600
    next.key    the pair that takes its place when a rotation is finished, mode 0600
    allowed     one line a key: the name of a host and its public key

Keys are written as 64 hex digits, which no shell and no chat changes. Nothing of a file is used
before all of it was read and found right.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from handrail.errors import ConfigError
from handrail.process import KEYS_ENV

HOST, NEXT, ALLOWED = "host.key", "next.key", "allowed"
_MAX_BYTES = 1 << 20  # [B], of a file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")


class KeyPair(NamedTuple):
    """A host's CURVE keys, 64 hex digits each."""

    public: str
    secret: str


def default_folder() -> Path:
    """Return where this user's keys live unless a command is told otherwise."""
    given = os.environ.get(KEYS_ENV)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "handrail" / "keys"


def new_pair() -> KeyPair:
    """Return a pair nobody else has."""
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public).hex(), z85.decode(secret).hex())


def check_name(name: str) -> str:
    """Return a host's name.

    Raises:
        ConfigError: It isn't one.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a host's name has 1 to 64 letters, digits, dots, dashes or underscores, got {name!r}"
        )
    return name


def check_key(key: str) -> str:
    """Return a public key in lower case.

    Raises:
        ConfigError: It isn't one.
    """
    if not _KEY.fullmatch(key.lower()):
        raise ConfigError(
            f"a public key has 64 hex digits, as `handrail keys show` prints it, got {key!r}"
        )
    return key.lower()


def read_pair(folder: Path, name: str = HOST) -> KeyPair:
    """Return the pair in a key file.

    Raises:
        ConfigError: There is none, others may read it, or it is damaged; says what to do.
    """
    path = folder / name
    lines = _read(path, 0o077, "read by others", 600).split()
    if len(lines) != 4 or lines[0] != "public" or lines[2] != "secret":
        raise ConfigError(f"{path} is no key file: it needs a line `public` and a line `secret`")
    pair = KeyPair(lines[1], lines[3])
    if not (_KEY.fullmatch(pair.public) and _KEY.fullmatch(pair.secret)):
        raise ConfigError(f"{path} is damaged: a key has 64 hex digits")
    if z85.decode(zmq.curve_public(z85.encode(bytes.fromhex(pair.secret)))).hex() != pair.public:
        raise ConfigError(f"{path} is damaged: its public key is not that of its secret key")
    return pair


def write_pair(folder: Path, name: str, pair: KeyPair) -> None:
    """Write a key file.

    Raises:
        ConfigError: There is one of that name already; it stays.
    """
    _make(folder)
    with _written(folder / name, f"public {pair.public}\nsecret {pair.secret}\n") as temporary:
        try:
            os.link(temporary, folder / name)
        except FileExistsError:
            raise ConfigError(f"{folder / name} exists and is left as it is") from None


def read_allowed(folder: Path) -> dict[str, str]:
    """Return public key to name of every host that is let in; empty where there is no list.

    Raises:
        ConfigError: Others may change the list, or a line of it is wrong; says which.
    """
    path = folder / ALLOWED
    try:
        text = _read(path, 0o022, "changed by others", 600)
    except FileNotFoundError:
        return {}
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            if len(words) != 2:
                raise ConfigError("a line is a name and a public key")
            name, key = check_name(words[0]), check_key(words[1])
            if key in names:
                raise ConfigError(f"key {key[:8]}... is there twice")
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        names[key] = name
    return names


def write_allowed(folder: Path, names: Mapping[str, str]) -> None:
    """Replace the list, whole or not at all.

    Args:
        folder: Of the keys.
        names: Public key to name.
    """
    _make(folder)
    text = "".join(f"{name} {key}\n" for key, name in names.items())
    with _written(folder / ALLOWED, text) as temporary:
        os.replace(temporary, folder / ALLOWED)


def activate_next_key(folder: Path) -> None:
    """Put the next key in the place of the host's key, in one step.

    Raises:
        ConfigError: There is no usable next key.
    """
    read_pair(folder, NEXT)
    os.replace(folder / NEXT, folder / HOST)
    _sync(folder)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other commands from changing the folder meanwhile."""
    _make(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def file_stamps(folder: Path) -> tuple[tuple[int, ...], ...]:
    """Return what changes whenever a key or the list changes, or who may touch them."""
    found = []
    for path in (folder, folder / HOST, folder / ALLOWED):
        try:
            at = os.stat(path)
        except OSError:
            found.append(())
        else:
            found.append((at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
    return tuple(found)


def _read(path: Path, forbidden: int, what: str, mode: int) -> str:
    """Return a file's text if nobody but its owner has the forbidden rights."""
    fd = -1
    try:
        _check_folder(path.parent)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        at = os.fstat(fd)
        if not stat.S_ISREG(at.st_mode):
            raise ConfigError(f"{path} is not a file")
        _check_owner(path, at)
        if at.st_mode & forbidden:
            raise ConfigError(
                f"{path} may be {what} (mode {stat.S_IMODE(at.st_mode):04o}); "
                f"run: chmod {mode} {path}"
            )
        if at.st_size > _MAX_BYTES:
            raise ConfigError(f"{path} has {at.st_size} B, at most {_MAX_BYTES} are read")
        return os.read(fd, _MAX_BYTES).decode("ascii")
    except FileNotFoundError:
        if path.name == ALLOWED:
            raise
        raise ConfigError(f"there is no {path}; run: handrail keys new") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is damaged: it holds bytes that are not text") from None
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    finally:
        if fd >= 0:
            os.close(fd)


def _check_folder(folder: Path) -> None:
    at = os.stat(folder)
    _check_owner(folder, at)
    if at.st_mode & 0o022:
        raise ConfigError(
            f"folder {folder} may be changed by others (mode {stat.S_IMODE(at.st_mode):04o}); "
            f"run: chmod 700 {folder}"
        )


def _check_owner(path: Path, at: os.stat_result) -> None:
    if at.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to user {at.st_uid}, not to {os.geteuid()} who runs this; "
            f"run: sudo chown {os.geteuid()} {path}"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make folder {folder}: {error.strerror}") from None
    _check_folder(folder)


@contextlib.contextmanager
def _written(path: Path, text: str) -> Iterator[Path]:
    """Yield a synced temporary file of mode 0600 beside the path, gone afterwards."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(fd)
        yield temporary
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
