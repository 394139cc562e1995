"""What the machine can do: pictures, accelerator, cores, memory, disk."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from handrail.cache_check import damaged
from handrail.caches import cache_folder
from handrail.checks.install import pip_line, version_of
from handrail.checks.result import FAIL, OK, WARN, CheckResult
from handrail.checks.shell import read_kernel_file, run_python

GL_LIBRARIES = "apt-get install -y libegl1 libgl1 libopengl0 libegl-mesa0 libgl1-mesa-dri"
_RENDER = """
import os
os.environ.setdefault("MUJOCO_GL", "egl")
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.2' rgba='1 0 0 1'/>"
    "<camera name='c' pos='0 -1 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data, camera="c")
    red = int(renderer.render()[16, 16, 0])
from OpenGL import GL
print(os.environ["MUJOCO_GL"], red)
"""
_JAX = "import jax; print(', '.join(f'{d.platform}:{d.id} {d.device_kind}' for d in jax.devices()))"


def graphics() -> list[CheckResult]:
    """Render one small picture in a process of its own, as the simulated cameras do."""
    roles = ("sim",)
    if version_of("mujoco") is None:
        return [CheckResult("machine", "GL", FAIL, "mujoco is missing", pip_line("sim"), roles)]
    begun = time.monotonic()
    done, output = run_python(_RENDER, 60.0)
    took = time.monotonic() - begun
    if done and output.split()[-1].isdigit() and int(output.split()[-1]) > 50:
        text = f"{output.split()[-2]} renders without a display ({took:.1f} s with start-up)"
        return [CheckResult("machine", "GL", OK, text, "", roles)]
    why = f"a black picture: {output}" if done else output
    return [CheckResult("machine", "GL", FAIL, f"can't render: {why}", GL_LIBRARIES, roles)]


def accelerator() -> list[CheckResult]:
    """Say what jax computes on."""
    if version_of("jax") is None:
        return []
    done, output = run_python(_JAX, 120.0)
    roles = ("learner",)
    if done:
        return [CheckResult("machine", "jax", OK, output, "", roles)]
    remedy = "JAX_PLATFORMS=cpu makes jax stay on the processor"
    return [CheckResult("machine", "jax", FAIL, f"finds no device: {output}", remedy, roles)]


def resources(folder: Path) -> list[CheckResult]:
    """Say what the machine has: cores, memory, disk.

    Args:
        folder: Where run folders will be.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = _quota()
    count = min(float(cores or 1), share) if share else float(cores or 1)
    text = f"{cores} usable" + (f", {share:g} granted by the control group" if share else "")
    found = [
        CheckResult("machine", "cores", OK, text)
        if count >= 2
        else CheckResult(
            "machine", "cores", WARN, f"{text}; training is slow below 2", "", ("sim",)
        )
    ]
    memory = _memory()
    text = f"{memory / 2**30:.1f} GiB available"
    found.append(
        CheckResult("machine", "memory", OK, text)
        if memory >= 2 * 2**30
        else CheckResult(
            "machine", "memory", WARN, f"{text}; 2 GiB are needed", "", ("learner", "sim")
        )
    )
    return [*found, *_disk(folder), *_cache()]


def _quota() -> float | None:
    words = read_kernel_file("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    return None


def _memory() -> float:
    free = [
        1024.0 * int(line.split()[1])
        for line in read_kernel_file("/proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    limit, used = (
        read_kernel_file("/sys/fs/cgroup/memory.max"),
        read_kernel_file("/sys/fs/cgroup/memory.current"),
    )
    if limit.strip().isdigit() and used.strip().isdigit():
        free.append(float(int(limit) - int(used)))
    return min(free, default=float("inf"))


def _disk(folder: Path) -> list[CheckResult]:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free in {folder}"
    if free < 2e8:
        found = [
            CheckResult("machine", "disk", FAIL, text, "free some space, or give --out elsewhere")
        ]
    else:
        found = [CheckResult("machine", "disk", OK if free > 2e9 else WARN, text)]
    try:
        took = _sync_times(folder, 20)
    except OSError as error:
        text = f"can't write in {folder}: {error.strerror}"
        return [*found, CheckResult("machine", "fsync", FAIL, text, "run from a folder of yours")]
    median, worst = 1e3 * statistics.median(took), 1e3 * max(took)
    text = f"{median:.1f} ms (median), {worst:.1f} ms (worst) to make 4 kB durable"
    return [*found, CheckResult("machine", "fsync", OK if median < 50 else WARN, text)]


def _sync_times(folder: Path, count: int) -> Sequence[float]:
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(count):
            begun = time.monotonic()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            took.append(time.monotonic() - begun)
    return took


def _cache() -> list[CheckResult]:
    folder = cache_folder(os.environ)
    if bad := damaged(os.environ):
        text = f"{len(bad)} damaged files, such as {bad[0]}; each is compiled again when it is met"
        return [CheckResult("machine", "caches", WARN, text)]
    if folder.is_relative_to(tempfile.gettempdir()) and "HANDRAIL_CACHE" not in os.environ:
        text = f"{folder}: compiled code is lost when the system tidies up"
        return [
            CheckResult("machine", "caches", WARN, text, "export HANDRAIL_CACHE=/a/folder/of/yours")
        ]
    return [CheckResult("machine", "caches", OK, str(folder))]
