"""How well the host's 1 kHz loop would keep its clock here."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time

from handrail.checks.result import OK, WARN, CheckResult
from handrail.checks.shell import read_kernel_file, run_python

_ADDRESSES = 1 << 33  # [bytes], more than the host has addresses: locking counts them all
_FIFO = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(80))"


def clocks(seconds: float = 1.0) -> list[CheckResult]:
    """Measure the monotonic clock's resolution and how late a 1 kHz loop wakes up.

    Args:
        seconds: How long the loop runs.
    """
    resolution = time.get_clock_info("monotonic").resolution
    late = wakeup_latencies(seconds)
    cuts = statistics.quantiles(late, n=100) if len(late) > 1 else [0.0] * 99
    p50, p99, worst = (1e6 * value for value in (cuts[49], cuts[98], max(late)))
    text = (
        f"resolution {resolution * 1e9:.0f} ns; 1 kHz wake-ups are late by "
        f"{p50:.0f} µs (median), {p99:.0f} µs (99 %), {worst:.0f} µs (worst)"
    )
    if p99 < 500:
        return [CheckResult("time", "clock", OK, text, "", ("host",))]
    remedy = "fewer programs beside the host, SCHED_FIFO, or a PREEMPT_RT kernel"
    return [
        CheckResult("time", "clock", WARN, f"{text}; too late for a real arm", remedy, ("host",))
    ]


def wakeup_latencies(seconds: float) -> list[float]:
    """Return how late each wake-up of a sleeping 1 kHz loop was, [s]."""
    late, period = [], 1e-3
    deadline = time.monotonic() + period
    for _ in range(max(1, int(seconds / period))):
        time.sleep(max(0.0, deadline - time.monotonic()))
        late.append(max(0.0, time.monotonic() - deadline))
        deadline += period
    return late


def rt_privileges() -> list[CheckResult]:
    """Say whether the host may run in real time; simulation in lockstep needs none of it."""
    found = []
    fifo, _ = run_python(_FIFO, 10.0)
    user = os.environ.get("USER") or "robot"
    limits = "/etc/security/limits.conf"
    if fifo:
        found.append(CheckResult("time", "SCHED_FIFO", OK, "granted", "", ("host",)))
    else:
        remedy = f"echo '{user} - rtprio 98' | sudo tee -a {limits}, then log in again"
        text = "refused; any busy program can make a tick late by milliseconds"
        found.append(CheckResult("time", "SCHED_FIFO", WARN, text, remedy, ("host",)))
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= _ADDRESSES or os.geteuid() == 0:
        found.append(CheckResult("time", "locked memory", OK, "granted", "", ("host",)))
    else:
        remedy = f"echo '{user} - memlock unlimited' | sudo tee -a {limits}, then log in again"
        text = f"limited to {soft // 1024} KiB; a swapped page makes a tick late"
        found.append(CheckResult("time", "locked memory", WARN, text, remedy, ("host",)))
    latency = "/dev/cpu_dma_latency"
    if os.access(latency, os.W_OK):
        found.append(CheckResult("time", "cores awake", OK, "granted", "", ("host",)))
    else:
        text = f"{latency} can't be written; an idle core may wake up 0.1 ms late"
        remedy = f"sudo chgrp $(id -gn) {latency} && sudo chmod g+w {latency}, or a udev rule"
        remedy = remedy if os.path.exists(latency) else ""
        found.append(CheckResult("time", "cores awake", WARN, text, remedy, ("host",)))
    isolated = read_kernel_file("/sys/devices/system/cpu/isolated").strip()
    text = (
        f"core {isolated}: set [host] core to it" if isolated else "none; others share the loop's"
    )
    remedy = "" if isolated else "a real arm wants one: isolcpus=3 on the kernel's command line"
    state = OK if isolated else WARN
    found.append(CheckResult("time", "isolated core", state, text, remedy, ("host",)))
    realtime = (
        read_kernel_file("/sys/kernel/realtime").strip() == "1"
        or "PREEMPT_RT" in platform.version()
    )
    text = f"{platform.release()}, " + ("PREEMPT_RT" if realtime else "not PREEMPT_RT")
    remedy = "" if realtime else "a real arm wants it: sudo apt-get install linux-image-rt-amd64"
    found.append(CheckResult("time", "kernel", OK if realtime else WARN, text, remedy, ("host",)))
    return found
