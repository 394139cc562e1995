"""The experiments M1 to M10: what the arm does with the safety chain off and on.

Each scenario runs on the simulated arm with joint friction, a tick of delay and half a kilogram of
payload that nobody compensates; energy, limits and the wall's force come from the simulation's own
meter. "Off" leaves out every stage that can be left out; only the torque limits stay.

    python benchmarks/safety.py --plots docs/images

The last line is a JSON object with every figure, among them `energy_vs_bound_max,
energy_vs_bound_max_off, energy_vs_bound_max_books_sent, torque_violations, rate_violations,
wall_peak_n, gated_share_benign, benign_completed`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.studies.adversary import KINDS, search
from controllers.config import STAGES, ControlConfig
from controllers.kinematics import forward
from controllers.packed import MEAS, PARAM, STATE
from controllers.robot import Authority, Mode, Request
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.energy_meter import METER
from robot_env.arms.sim.mujoco_robot import MujocoRobot
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.50, 0.0, 0.30])
REAL = MujocoConfig(friction=(0.5, 0.5), payload_error=(0.5, 0.5), delay=1)
WALL, STIFF, DAMPING = 0.56, 1e5, 100.0  # [m], [N/m], [N s/m]
ON = ControlConfig(
    max_stretch=0.010, force_limit=1e4, box_low=(0.2, -0.6, 0.0), box_high=(0.8, 0.6, 0.8)
)
OFF = replace(ON, max_stretch=1.0, disabled_stages=STAGES)


class Trail(NamedTuple):
    """What a run left, a row per tick."""

    time: np.ndarray  # (T,) [s]
    position: np.ndarray  # (T, 3) of the tool [m]
    force: np.ndarray  # (T,) of the wall [N]
    tank: np.ndarray  # (T,) [J]
    speed: np.ndarray  # (T,) of the tool [m/s]


Ask = Callable[[MujocoRobot, int], Request | None]  # called every period with robot and tick


def robot_of(
    control: ControlConfig, real: MujocoConfig = REAL, wall: bool = False, seed: int = 0
) -> MujocoRobot:
    """Return an arm at its start, with a wall in its way or none."""
    robot = MujocoRobot(build_scene("", gripper=False), real, control, 10.0)
    robot.meter[METER.wall] = WALL if wall else math.nan
    robot.meter[METER.wall_stiffness], robot.meter[METER.wall_damping] = STIFF, DAMPING
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(seed))
    return robot


def drive(robot: MujocoRobot, ask: Ask, seconds: float, period: int = 100) -> Trail:
    """Run an arm and return what it did."""
    rows, tool = [], robot.data.site("tool").xpos  # type: ignore[attr-defined]
    for tick in range(round(1000 * seconds)):
        request = ask(robot, tick) if tick % period == 0 else None
        before = tool.copy()
        robot.run(request, 1)
        speed = 1e3 * float(np.linalg.norm(tool - before))
        rows.append([tick * 1e-3, *tool, robot.meter[METER.force], robot.state[STATE.tank], speed])
    a = np.array(rows)
    return Trail(a[:, 0], a[:, 1:4], a[:, 4], a[:, 5], a[:, 6])


def asks(robot: MujocoRobot, place: np.ndarray, stiffness: float = 0.0, source: int = 0) -> Request:
    """Return the next request of a source: a place [m] and a stiffness [N/m]."""
    gains = (stiffness, stiffness, stiffness, 0.0)
    return Request(int(robot.state[STATE.seq]) + 1, source, place, DOWN, 0.0, gains)


def figures(robot: MujocoRobot, trail: Trail) -> dict[str, Any]:
    """Return what every run is judged by."""
    m = robot.meter
    contact = trail.force[trail.force > 0.0]
    steady = trail.force[-200:]
    return {
        "energy_j": round(float(m[METER.work]), 3),
        "energy_vs_bound": round(robot.energy_used, 3),
        "speed_max": round(float(trail.speed.max()), 3),
        "force_peak_n": round(float(m[METER.force_peak]), 1),
        "force_steady_n": round(float(steady.mean()), 2),
        "ripple_n": round(float(steady.std()), 3) if len(contact) else 0.0,
        "touches": int(m[METER.touches]),
        "contact_speed": round(float(m[METER.speed]), 3),
        "torque_step_max": round(float(m[METER.step_peak]), 4),
        "jerk_rms": round(float(np.sqrt(m[METER.jerk_square] / m[METER.ticks])) * 1e3, 1),
        "torque_violations": int(m[METER.torque_over]),
        "rate_violations": int(m[METER.rate_over]),
        "gated_share": round(float(m[METER.gated] / m[METER.ticks]), 4),
        "tank_min_j": round(float(trail.tank.min()), 3),
        "mode": Mode(int(robot.state[STATE.mode])).name,
    }


def impact_bound(robot: MujocoRobot, stiffness: float) -> float:
    """Return the most that the wall may feel: K c + 1.2 v sqrt(k m) [N].

    v is the measured speed at the first touch, m what the arm weighs along x where it is now.
    """
    pose, jacobian = np.empty(7), np.empty((6, 7))
    measurement = robot._measurement
    forward(
        measurement[MEAS.q : MEAS.q + 7], robot.params[PARAM.tool : PARAM.tool + 3], pose, jacobian
    )
    mass = measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49].reshape(7, 7)
    mobility = jacobian @ np.linalg.solve(mass, jacobian.T)
    push = stiffness * robot.control.max_stretch
    return push + 1.2 * float(robot.meter[METER.speed]) * math.sqrt(STIFF / mobility[0, 0])


def m1(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """Bang-bang in phase with the motion: +-0.1 m and 100 <-> 3000 N/m at 10 Hz, 6 s."""

    def ask(robot: MujocoRobot, tick: int) -> Request:
        way = np.sign(robot.state[STATE.twist : STATE.twist + 3] + 1e-6)
        offset = robot.state[STATE.pose : STATE.pose + 3] - START
        stiff = 3000.0 if float(offset @ way) < 0.0 else 100.0
        return asks(robot, START + 0.1 * way, stiff)

    robot = robot_of(control)
    return robot, drive(robot, ask, 6.0)


def m2(control: ControlConfig, seed: int = 0, tank: float = 1.0) -> tuple[MujocoRobot, Trail]:
    """Random targets and stiffness, with pushes of 30 N."""
    rng = np.random.default_rng(seed)
    top = max(2.0, tank)
    robot = robot_of(replace(control, tank_start=tank, tank_max=top))

    def ask(robot: MujocoRobot, tick: int) -> Request:
        push = rng.uniform(-1.0, 1.0, 3)
        pushing = rng.random() < 0.2
        robot.meter[METER.push : METER.push + 3] = 30.0 * push / np.linalg.norm(push) * pushing
        return asks(robot, START + rng.uniform(-0.1, 0.1, 3), rng.uniform(100.0, 3000.0))

    return robot, drive(robot, ask, 5.0)


def m3(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """A jump of stiffness 200 -> 3000 N/m and of the set-point by 50 mm, at once."""

    def ask(robot: MujocoRobot, tick: int) -> Request:
        late = tick >= 500
        place = START + np.array([0.05 if late else 0.0, 0.0, 0.0])
        return asks(robot, place, 3000.0 if late else 200.0)

    robot = robot_of(control)
    return robot, drive(robot, ask, 3.0)


def approach(stiffness: float) -> Ask:
    """Return requests that run the set-point at 0.3 m/s to 0.1 m inside the wall."""

    def ask(robot: MujocoRobot, tick: int) -> Request:
        x = min(START[0] + 0.3e-3 * (tick + 100), WALL + 0.1)
        return asks(robot, np.array([x, 0.0, START[2]]), stiffness)

    return ask


def m4(control: ControlConfig, stiffness: float = 2000.0) -> tuple[MujocoRobot, Trail]:
    """Against a wall of 1e5 N/m with the set-point 0.1 m inside."""
    robot = robot_of(control, wall=True)
    return robot, drive(robot, approach(stiffness), 2.5)


def m5(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """As M4 with 3000 N/m."""
    return m4(control, 3000.0)


def m6(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """As M4 with 300 N/m and a spring that may stretch by 20 mm."""
    return m4(replace(control, max_stretch=min(2.0 * control.max_stretch, 1.0)), 300.0)


def m6b(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """Launched at 0.3 m/s a millimetre before the wall: what an impact alone does."""
    robot = robot_of(control, wall=True)
    begin = np.array([WALL - 0.001, 0.0, START[2]])
    robot.reset(robot.inverse_kinematics(begin, DOWN), 0.0, np.random.default_rng(0))
    step = 1e-4
    q0 = robot.inverse_kinematics(begin - np.array([0.5 * step, 0.0, 0.0]), DOWN)
    q1 = robot.inverse_kinematics(begin + np.array([0.5 * step, 0.0, 0.0]), DOWN)
    robot.data.qvel[:7] = 0.3 * (q1 - q0) / step  # type: ignore[attr-defined]
    return robot, drive(robot, lambda r, t: asks(r, begin, 2000.0), 1.0)


def m7(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """A person takes over 0.15 m away and hands back, at random phases, ten times."""
    rng = np.random.default_rng(0)
    robot = robot_of(control)
    plan = {"source": 0}

    def ask(robot: MujocoRobot, tick: int) -> Request:
        if rng.random() < 0.3:
            plan["source"] = int(Authority.POLICY) if plan["source"] else int(Authority.HUMAN)
        sway = 0.03 * np.array([0.0, math.sin(tick * 5e-3), math.cos(tick * 3e-3)])
        away = np.array([0.0, 0.15, 0.0]) if plan["source"] else np.zeros(3)
        return asks(robot, START + sway + away, 2000.0, plan["source"])

    return robot, drive(robot, ask, 8.0)


def m8(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """As M4, with 5 % of commands lost in bursts of 10 ms: the hardest impact of eight."""
    real = replace(REAL, loss=0.005, loss_ticks=10)
    runs = []
    for seed in range(8):
        robot = robot_of(control, real, wall=True, seed=seed)
        runs.append((robot, drive(robot, approach(2000.0), 2.5)))
    return max(runs, key=lambda run: float(run[0].meter[METER.force_peak]))


def m10(control: ControlConfig) -> tuple[MujocoRobot, Trail]:
    """As M4; the policy dies in mid-approach."""

    def ask(robot: MujocoRobot, tick: int) -> Request | None:
        if tick >= 250:
            robot.heartbeat_age = math.inf
            return None
        return approach(2000.0)(robot, tick)

    robot = robot_of(control, wall=True)
    return robot, drive(robot, ask, 3.0, 10)


SCENARIOS: dict[str, Callable[[ControlConfig], tuple[MujocoRobot, Trail]]] = {
    "m1": m1, "m3": m3, "m4": m4, "m5": m5, "m6": m6, "m6b": m6b, "m7": m7, "m8": m8, "m10": m10,
}  # fmt: skip


def benign(seconds: float = 60.0) -> dict[str, Any]:
    """Return whether healthy tasks are done, and the share of ticks that the gate touched."""
    done, gated, ticks = [], 0.0, 0.0
    for name in ("peg", "pick"):
        task = make(name)
        env = RobotEnv(HostCore(task, MujocoConfig(), ControlConfig()), task)
        expert = task.expert(np.random.default_rng(0))
        for start in range(10):
            _, info = env.reset(options={"start": start})
            expert.reset()
            over = False
            while not over:
                action = expert.act(info["snapshot"], info["goal_estimate"])
                _, _, ended, late, info = env.step(action)
                over = ended or late
            done.append(info["success"])
            meter = env.host.robot.meter  # type: ignore[attr-defined]
            gated, ticks = gated + meter[METER.gated], ticks + meter[METER.ticks]
        env.close()
    robot = robot_of(ControlConfig(), replace(REAL, friction=(0.8, 0.8), payload_error=(0.0, 0.0)))

    def ask(robot: MujocoRobot, tick: int) -> Request:
        phase = (tick * 1e-4) % 0.2
        y = phase if phase < 0.05 else 0.1 - phase if phase < 0.15 else phase - 0.2
        return asks(robot, START + np.array([0.0, y, 0.0]))

    trail = drive(robot, ask, seconds)
    gated, ticks = gated + robot.meter[METER.gated], ticks + robot.meter[METER.ticks]
    swing = [float(trail.position[-30_000:, 1].min()), float(trail.position[-30_000:, 1].max())]
    return {
        "gated_share_benign": round(float(gated / ticks), 5),
        "benign_completed": float(np.mean([*done, swing[0] < -0.035 and swing[1] > 0.035])),
        "swing_m": [round(x, 4) for x in swing],
        "tank_after_swing_j": round(float(robot.state[STATE.tank]), 3),
    }


def stop_time(trail: Trail, since: float) -> float:
    """Return how long after a moment the tool is slower than 5 mm/s for 50 ms [s]."""
    slow = np.convolve(trail.speed < 5e-3, np.ones(50), "valid") == 50
    at = np.flatnonzero(slow & (trail.time[: len(slow)] >= since))
    return float(trail.time[at[0]] - since) if len(at) else math.inf


def main() -> int:
    """Run every experiment; return 1 if a limit was broken with the chain on."""
    parser = argparse.ArgumentParser(description="The arm with the safety chain off and on.")
    parser.add_argument("--plots", type=Path, help="folder for the pictures")
    parser.add_argument("--generations", type=int, default=8, help="of the adversary")
    parser.add_argument("--seeds", type=int, default=8, help="of the random runs")
    options = parser.parse_args()
    begun = time.monotonic()
    rows: dict[str, Any] = {}
    trails: dict[str, dict[str, Trail]] = {}
    for name, scenario in SCENARIOS.items():
        for kind, control in (("off", OFF), ("on", ON)):
            robot, trail = scenario(control)
            rows.setdefault(name, {})[kind] = figures(robot, trail)
            trails.setdefault(name, {})[kind] = trail
        print(name, json.dumps(rows[name]), flush=True)
    for kind, control in (("off", OFF), ("on", ON)):
        found = [
            figures(*m2(control, seed, tank))
            for tank in (0.2, 1.0, 3.0)
            for seed in range(options.seeds)
        ]
        worst = {key: max(f[key] for f in found) for key in found[0] if key != "mode"}
        rows.setdefault("m2", {})[kind] = worst
    print("m2", json.dumps(rows["m2"]), flush=True)
    shares = {}
    for name, stiffness in (("m4", 2000.0), ("m5", 3000.0), ("m6", 300.0), ("m6b", 2000.0)):
        robot, _ = SCENARIOS[name](ON)
        shares[name] = round(
            float(robot.meter[METER.force_peak]) / impact_bound(robot, stiffness), 3
        )
    for kind in ("off", "on"):  # the last request came at 0.24 s
        trail = trails["m10"][kind]
        rows["m10"][kind]["stop_s"] = round(stop_time(trail, 0.24), 3)
        rows["m10"][kind]["sunk_mm"] = round(
            1e3 * float(trail.position[240, 2] - trail.position[-1, 2]), 1
        )
    attacks = {name: search(kind, options.generations, 0) for name, kind in KINDS.items()}
    on = [group["on"] for group in rows.values()]
    off = [group["off"] for group in rows.values()]
    row = {
        "energy_vs_bound_max": max(attacks["on"]["used"], *(f["energy_vs_bound"] for f in on)),
        "energy_vs_bound_max_off": max(
            attacks["off"]["used"], *(f["energy_vs_bound"] for f in off)
        ),
        "energy_vs_bound_max_books_sent": attacks["books_sent"]["used"],
        "torque_violations": sum(f["torque_violations"] for f in on),
        "rate_violations": sum(f["rate_violations"] for f in on),
        "wall_peak_n": max(rows[name]["on"]["force_peak_n"] for name in ("m4", "m5", "m6", "m8")),
        "wall_peak_off_n": max(rows[name]["off"]["force_peak_n"] for name in ("m4", "m5", "m8")),
        "impact_vs_bound": shares,
        **benign(),
        "seconds": round(time.monotonic() - begun, 1),
        "experiments": rows,
    }
    if options.plots:
        from benchmarks.pages.safety_plots import draw

        draw(trails, rows, options.plots)
    print(json.dumps(row))
    bad = row["torque_violations"] + row["rate_violations"] or row["energy_vs_bound_max"] > 1.0
    bad = bad or max(shares.values()) > 1.0
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
