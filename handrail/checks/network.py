"""Settings of cores and network cards that a real arm's 1 kHz packets depend on."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from pathlib import Path

from handrail.checks.result import OK, WARN, CheckResult
from handrail.checks.shell import read_kernel_file

CARDS = Path("/sys/class/net")
CORES = Path("/sys/devices/system/cpu")
_SIOCETHTOOL, _GET_COALESCING = 0x8946, 0x0E
_WORDS = 23  # of struct ethtool_coalesce; the second is rx-usecs


def governors(cores: Path = CORES) -> list[CheckResult]:
    """Say whether the cores change their clock, which makes the first work after a sleep slow.

    Args:
        cores: Folder of the kernel's that describes them.
    """
    files = sorted(cores.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    found = sorted({read_kernel_file(str(path)).strip() for path in files} - {""})
    if not found:
        text = "the kernel does not change it, or does not say"
        return [CheckResult("time", "clock speed", OK, text, "", ("host",))]
    text = f"governor {', '.join(found)}"
    if found == ["performance"]:
        return [CheckResult("time", "clock speed", OK, text, "", ("host",))]
    text += "; a core that slowed down makes a tick long"
    remedy = "sudo cpupower frequency-set -g performance"
    return [CheckResult("time", "clock speed", WARN, text, remedy, ("host",))]


def network_cards(folder: Path = CARDS) -> list[CheckResult]:
    """Say what keeps a wired network card from passing on a packet at once.

    Args:
        folder: The kernel's, with an entry per network card.
    """
    found = []
    for card in sorted(folder.iterdir()) if folder.is_dir() else []:
        wired = (card / "device").exists() and not (card / "wireless").exists()
        if wired and read_kernel_file(str(card / "operstate")).strip() == "up":
            found.append(_card(card))
    if not found:
        text = "no wired network card is up; a real arm wants one of its own"
        found.append(CheckResult("time", "network card", WARN, text, "", ("host",)))
    return found


def evaluate_card(name: str, speed: str, duplex: str, wait: int | None) -> tuple[str, str, str]:
    """Return state, text and remedy of a network card.

    Args:
        name: Of the card.
        speed: As the kernel writes it [Mbit/s]; "" or negative where it doesn't know.
        duplex: As the kernel writes it.
        wait: How long the card may keep a packet before it tells of it [µs]; None: unknown.
    """
    known = speed.isdigit()
    text = f"{speed} Mbit/s" if known else "speed unknown"
    text += f", {duplex} duplex" if duplex in ("half", "full") else ""
    text += ", keeps packets for an unknown time" if wait is None else f", keeps packets {wait} µs"
    if (known and int(speed) < 100) or duplex == "half":
        return WARN, text, "a cable straight from the robot, at 100 Mbit/s full duplex or more"
    if wait:
        return WARN, text, f"sudo ethtool -C {name} adaptive-rx off rx-usecs 0 (the robot's card)"
    return OK, text, ""


def rx_coalescing_us(name: str) -> int | None:
    """Return for how long a card may keep a packet [µs], or None where it doesn't say."""
    words = array.array("I", [_GET_COALESCING] + [0] * (_WORDS - 1))
    at, _ = words.buffer_info()
    question = struct.pack("16sP16x", name.encode()[:15], at)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCETHTOOL, question)
    except OSError:
        return None
    return words[1]


def _card(card: Path) -> CheckResult:
    speed, duplex = (read_kernel_file(str(card / part)).strip() for part in ("speed", "duplex"))
    state, text, remedy = evaluate_card(card.name, speed, duplex, rx_coalescing_us(card.name))
    return CheckResult("time", f"card {card.name}", state, text, remedy, ("host",))
