"""What the simulated robot costs: one control tick, one policy step, one picture.

All realism is on. The tick (sensors, control chain, physics) is measured against bare physics of
the same model over the same stretches: before each policy period the simulation is copied, and the
copy runs the same number of steps in one call of `mj_step` with the last torques. Half of the
episodes are an expert's, half a pusher's that rests in contact. Policy steps are measured through
the real process boundary, pictures in mid-episode with both cameras read back.

    python benchmarks/sim.py --task peg

The last line is one JSON object.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

import mujoco
import numpy as np

from controllers.config import ControlConfig
from handrail.config import to_toml
from handrail.run_folder import create_run
from robot_env.arms.sim.config import MujocoConfig
from robot_env.cameras.sim import SimCameras
from robot_env.client import HostClient
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.base import Task
from robot_env.tasks.config import TaskConfig


def measure_ticks(task: Task, episodes: int) -> dict[str, float]:
    """Return the cost of a control tick and of a bare physics step [µs], interleaved."""
    core = HostCore(task, MujocoConfig(), ControlConfig())
    core.warm_up()
    model, data = core.robot.model, core.robot.data
    copy = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    whole, bare, contacts = [], [], []
    for episode in range(episodes):
        snapshot, goal_estimate = core.reset(episode)
        pusher = task.baselines.get("push") if episode % 2 else None  # rests on the rim, in contact
        actor = pusher(rng) if pusher else task.expert(rng)
        actor.reset()
        for seq in range(task.spec.horizon):
            mujoco.mj_copyData(copy, model, data)
            start = time.perf_counter()
            mujoco.mj_step(model, copy, nstep=core.ticks)
            bare.append(time.perf_counter() - start)
            request = task.request(snapshot, actor.act(snapshot, goal_estimate), seq)
            snapshot = core.step(request)
            whole.append(snapshot.tick_us * core.ticks * 1e-6)
            contacts.append(data.ncon)
            if task.success(snapshot.privileged_state):
                break
    core.close()
    tick = 1e6 * float(np.median(whole)) / core.ticks
    step = 1e6 * float(np.median(bare)) / core.ticks
    return {
        "ticks_per_s": round(1e6 / tick),
        "tick_us": round(tick, 2),
        "mj_step_us": round(step, 2),
        "tick_vs_bare_mj_step": round(sum(whole) / sum(bare), 3),
        "contacts": round(float(np.mean(contacts)), 2),
        "periods": len(whole),
    }


def measure_steps(task: Task, seconds: float) -> dict[str, float]:
    """Return policy steps per second and the share of real time, through the process boundary."""
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(
            Path(folder) / "run", task.name, task.spec.hash, f"[task]\n{to_toml(task.config)}"
        )
        host = subprocess.Popen(
            [sys.executable, "-m", "robot_env", "--run", str(run.folder)],
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            with HostClient.connect(run.id, task, deadline=60.0) as client:
                return _drive(RobotEnv(client, task), task, seconds)
        finally:
            host.terminate()
            _, log = host.communicate(timeout=20)
            if host.returncode not in (0, -15):
                print(log, file=sys.stderr)


def _drive(env: RobotEnv, task: Task, seconds: float) -> dict[str, float]:
    rng = np.random.default_rng(0)
    expert = task.expert(rng)
    steps, episodes, waited = 0, 0, 0.0
    env.reset(seed=0)
    expert.reset()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        action = expert.act(env.snapshot, env.goal_estimate)
        _, _, terminated, truncated, info = env.step(action)
        steps, waited = steps + 1, waited + info["host_s"]
        if terminated or truncated:
            episodes += 1
            env.reset()
            expert.reset()
    wall = time.perf_counter() - start
    return {
        "env_steps_per_s": round(steps / wall, 1),
        "realtime_factor": round(steps / wall / task.spec.control_hz, 1),
        "env_step_ms": round(1e3 * wall / steps, 3),
        "host_step_ms": round(1e3 * waited / steps, 3),
        "episodes": episodes,
    }


def measure_pictures(task: Task, pictures: int) -> dict[str, float]:
    """Return how many pictures a second both 128 x 128 cameras give in mid-episode, read back."""
    core = HostCore(task, MujocoConfig(), ControlConfig())
    snapshot, goal_estimate = core.reset(0)
    expert = task.expert(np.random.default_rng(0))
    cameras = SimCameras(core.robot.model, core.robot.data, 128)
    cameras.images()
    spent, count, seq = 0.0, 0, 0
    while count < pictures:
        snapshot = core.step(task.request(snapshot, expert.act(snapshot, goal_estimate), seq))
        seq += 1
        start = time.perf_counter()
        images = cameras.images()
        spent += time.perf_counter() - start
        count += len(images)
        if task.success(snapshot.privileged_state) or seq == task.spec.horizon:
            snapshot, goal_estimate = core.reset(count)
            expert.reset()
            seq = 0
    cameras.close()
    core.close()
    return {"render_fps": round(count / spent, 1), "render_cameras": 2}


def main() -> None:
    """Measure and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", default="peg", help="whose scene (default: peg)")
    parser.add_argument("--episodes", type=int, default=30, help="for the tick (default: 30)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of policy steps (default: 5)")
    parser.add_argument("--pictures", type=int, default=400, help="to render (default: 400)")
    options = parser.parse_args()
    task = make(options.task, TaskConfig(name=options.task))
    load = round(os.getloadavg()[0], 2)  # what else this machine is doing
    result: dict[str, object] = {"task": options.task, "load": load, "cores": os.cpu_count()}
    for name, part in (
        ("control ticks", lambda: measure_ticks(task, options.episodes)),
        ("policy steps", lambda: measure_steps(task, options.seconds)),
        ("pictures", lambda: measure_pictures(task, options.pictures)),
    ):
        print(f"measuring {name} ...", flush=True)
        result |= part()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
