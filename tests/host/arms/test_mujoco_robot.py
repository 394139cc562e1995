"""The simulated arm tracks, presses and grasps like one, and is imperfect as configured."""

# pyright: reportAttributeAccessIssue=false
import dataclasses
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from past_ticks import past, remembering

from controllers.config import ControlConfig
from controllers.kinematics import READY, pose_of
from controllers.packed import STATE
from controllers.robot import Mode, Request
from handrail.errors import ConfigError, Error
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.5, 0.0, 0.3])
PERFECT = MujocoConfig(
    friction=(0.0, 0.0),
    payload_error=(0.0, 0.0),
    delay=0,
    encoder_resolution=0.0,
    speed_noise=0.0,
    force_noise=0.0,
    torque_noise=0.0,
    force_bias=(0.0, 0.0),
    torque_bias=(0.0, 0.0),
)


def make(bodies: str = "", real: MujocoConfig | None = None, gripper: bool = False, **control):
    scene = build_scene(bodies, gripper=gripper)
    return remembering(MujocoRobot(scene, real or MujocoConfig(), ControlConfig(**control), 10.0))


def begin(robot: MujocoRobot, at: np.ndarray = START, width: float = 0.0, seed: int = 0):
    return robot.reset(robot.inverse_kinematics(at, DOWN), width, np.random.default_rng(seed))


def go(robot: MujocoRobot, target: np.ndarray, periods: int = 1, width: float = 0.0):
    snapshot = robot.snapshot()
    for _ in range(periods):
        request = Request(snapshot.request_seq + 1, 0, target, DOWN, width)
        snapshot = robot.run(request, 100)
    return snapshot


def test_snapshot_says_where_the_simulators_tool_is():
    robot = make(real=PERFECT)
    begin(robot)
    snapshot = go(robot, START + np.array([0.02, 0.03, -0.02]), 5)
    q = past(robot, "reading.q", 1)[0]
    assert snapshot.position == pytest.approx(pose_of(q)[:3], abs=1e-12)
    assert snapshot.position == pytest.approx(robot.data.site("tool").xpos, abs=1e-6)


@pytest.mark.parametrize(("real", "allowed"), [(PERFECT, 2e-4), (MujocoConfig(), 4e-3)])
def test_tool_comes_to_rest_on_its_target(real, allowed):
    robot = make(real=real)
    begin(robot)
    snapshot = begin(robot)
    for offset in np.linspace(0.0, 1.0, 20):
        snapshot = go(robot, START + offset * np.array([0.05, -0.1, 0.08]))
    snapshot = go(robot, START + np.array([0.05, -0.1, 0.08]), 15)
    assert np.linalg.norm(snapshot.position - START - np.array([0.05, -0.1, 0.08])) < allowed
    assert np.linalg.norm(snapshot.twist[:3]) < 0.003


def test_target_is_reached_in_a_straight_line_over_the_period():
    robot = make(real=PERFECT)
    begin(robot)
    go(robot, START + np.array([0.0, 0.01, 0.0]))
    y = past(robot, "target", 100)[:, 1]
    assert y == pytest.approx(np.linspace(0.0001, 0.01, 100), abs=1e-6)


def test_pressing_on_a_wall_is_bounded_by_stiffness_times_clip():
    wall = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3"/>'
    robot = make(wall, PERFECT)
    begin(robot)
    snapshot = begin(robot)
    peak = 0.0
    for _ in range(40):
        snapshot = go(robot, snapshot.target_position + np.array([0.02, 0.0, 0.0]))
        peak = max(peak, snapshot.force_peak)
    control = robot.control
    bound = control.stiffness[0] * control.max_stretch
    assert 0.85 * bound < -snapshot.wrench[0] < 1.05 * bound
    force = past(robot, "reading.wrench", 500)[:, 0]
    assert force.std() < 0.1
    assert peak < 70.0  # at 0.1 m/s
    assert snapshot.gated_ticks == 0


def test_wrench_is_the_environments_force_on_the_tool():
    """A known weight lies on an upturned hand, off its centre."""
    weight = '<body><freejoint/><geom class="task" type="box" size=".01 .01 .01" mass=".4"/></body>'
    tray = (
        '<body pos="0 0 .125" gravcomp="1">'
        '<geom class="task" type="box" size=".05 .05 .004" mass=".01"/></body>'
    )
    control = ControlConfig(max_tilt=3.2, stiffness=(3000.0, 3000.0, 3000.0))
    robot = MujocoRobot(build_scene(weight, tray, gripper=False), PERFECT, control, 10.0)
    upturned = np.array([0.0, 0.6, 0.0, 0.4 - np.pi, 0.0, 0.2, np.pi / 4])
    assert upturned[1] - upturned[3] - upturned[5] == pytest.approx(np.pi)
    robot.reset(upturned, 0.0, np.random.default_rng(0))
    tool = robot.data.site("tool").xpos
    robot.data.qpos[7:10] = tool + np.array([0.02, 0.0, 0.125 + 0.004 + 0.01 - 0.1034])
    snapshot = robot.run(None, 400)
    assert snapshot.wrench[:3] == pytest.approx([0.0, 0.0, -0.4 * 9.81], abs=0.2)
    assert snapshot.wrench[3:] == pytest.approx([0.0, 0.02 * 0.4 * 9.81, 0.0], abs=0.01)


def test_the_wrench_sensor_feels_a_payload_that_nobody_compensates():
    real = dataclasses.replace(PERFECT, payload_error=(0.4, 0.4))
    robot = make(real=real)
    start = begin(robot)
    settled = robot.run(None, 300)
    for snapshot in (start, settled):
        assert snapshot.wrench[:3] == pytest.approx([0.0, 0.0, -0.4 * 9.81], abs=0.05)
    arm = robot.data.xipos[robot.model.body("hand").id] - robot.data.site("tool").xpos
    assert settled.wrench[3:5] == pytest.approx(0.4 * 9.81 * np.array([-arm[1], arm[0]]), abs=0.01)


@pytest.mark.parametrize("mass", [0.05, 0.1])
def test_a_grasped_part_neither_slips_nor_falls(mass):
    part = (
        '<body name="part" pos=".5 0 .02"><freejoint/><geom class="task" type="box" '
        f'size=".0125 .0125 .02" mass="{mass}" friction=".5 .005 .0001"/></body>'
    )
    robot = make(part, gripper=True)
    begin(robot, np.array([0.5, 0.002, 0.028]), 0.06)
    go(robot, np.array([0.5, 0.002, 0.028]), 3, 0.06)
    snapshot = go(robot, np.array([0.5, 0.002, 0.028]), 5, 0.0)
    assert snapshot.gripper_width == pytest.approx(0.025, abs=5e-4)
    for z in np.arange(0.03, 0.15, 0.008):
        go(robot, np.array([0.5, 0.0, z]))

    def held() -> np.ndarray:
        tool = robot.data.site("tool")
        return tool.xmat.reshape(3, 3).T @ (robot.data.body("part").xpos - tool.xpos)

    before = held()
    for k in range(100):  # 10 s, the first half shaken
        sway = 0.012 * (-1) ** k if k < 50 else 0.0
        snapshot = go(robot, np.array([0.5 + sway, sway, 0.15]))
    assert np.linalg.norm(held() - before) < 5e-4
    assert robot.data.body("part").xpos[2] > 0.12
    assert snapshot.mode == Mode.FOLLOWING


def test_grip_force_is_limited():
    part = (
        '<body pos=".5 0 .02"><freejoint/><geom class="task" type="box" size=".02 .02 .02"/></body>'
    )
    robot = make(part, gripper=True)
    begin(robot, np.array([0.5, 0.0, 0.02]), 0.06)
    go(robot, np.array([0.5, 0.0, 0.02]), 10, 0.0)
    assert np.abs(robot.data.actuator_force[7:9]).max() <= 35.0 + 1e-9


def test_the_same_generator_gives_the_same_episode_bit_for_bit_and_another_does_not():
    robot = make()
    ends = []
    for seed in (4, 4, 5):
        begin(robot, seed=seed)
        snapshot = go(robot, START + np.array([0.02, 0.0, 0.0]), 10)
        ends.append(np.concatenate([snapshot.q, snapshot.wrench]))
    assert (ends[0] == ends[1]).all()
    assert not np.allclose(ends[0], ends[2], atol=1e-7)


def test_imperfections_are_drawn_within_their_ranges():
    robot = make()
    seen = []
    for seed in range(20):
        begin(robot, seed=seed)
        seen.append(robot.model.dof_frictionloss[:7].copy())
    assert np.min(seen) >= 0.2
    assert np.max(seen) <= 0.8
    assert np.ptp(seen) > 0.5


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_torque_acts_after_the_configured_delay(delay):
    robot = make(real=MujocoConfig(delay=delay))
    begin(robot)
    robot.run(Request(0, 0, START + np.array([0.05, 0.0, 0.0]), DOWN, 0.0), 60)
    sent = past(robot, "tick.torque", 60)
    assert robot.data.ctrl[:7] == pytest.approx(sent[-1 - delay], abs=0.0)


def test_a_ring_in_memory_keeps_the_newest_ticks_in_order():
    robot = remembering(make(), 10_000)
    assert len(past(robot, "tick", 5)) == 0
    begin(robot)
    robot.run(None, 13_000)
    assert (np.diff(past(robot, "tick", 20_000)) == 1.0).all()
    assert len(past(robot, "tick", 20_000)) == 10_000
    assert past(robot, "tick", 1) == robot.state[STATE.tick]


def test_inverse_kinematics_says_what_it_cannot_reach():
    robot = make()
    with pytest.raises(Error, match="can't reach"):
        robot.inverse_kinematics(np.array([1.5, 0.0, 0.3]), DOWN)


def test_a_scene_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="MJCF"):
        MujocoRobot("<mujoco><oops/></mujoco>", MujocoConfig(), ControlConfig(), 10.0)
    with pytest.raises(ConfigError, match="first joints"):
        MujocoRobot(
            "<mujoco><option timestep='0.001'/><worldbody><body name='hand'><joint name='j'/>"
            "<geom size='.1'/></body></worldbody></mujoco>",
            MujocoConfig(),
            ControlConfig(),
            10.0,
        )
    with pytest.raises(ConfigError, match="timestep"):
        MujocoRobot(build_scene("", timestep=0.002), MujocoConfig(), ControlConfig(), 10.0)


def test_compiled_ticks_come_from_the_cache_in_a_new_process():
    code = (
        "import numpy as np, numba\n"
        "from robot_env.arms.sim.config import MujocoConfig\n"
        "from robot_env.arms.sim.mujoco_robot import MujocoRobot\n"
        "from robot_env.arms.panda_mjcf import build_scene\n"
        "from controllers.config import ControlConfig\n"
        "from robot_env.arms.sim.plant import run_ticks\n"
        "MujocoRobot(build_scene(''), MujocoConfig(), ControlConfig(), 10.0)\n"
        "print(sum(run_ticks.stats.cache_misses.values()))"
    )
    make()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"


def test_ready_pose_is_clear_of_the_table_and_of_every_limit():
    robot = make(gripper=True)
    robot.reset(READY, 0.08, np.random.default_rng(0))
    snapshot = robot.run(None, 500)
    assert robot.data.ncon == 0
    assert snapshot.torque_limited_ticks == 0
    assert snapshot.spring < 1e-2
    assert robot.state[STATE.stiffness_scale] == 1.0
    assert mujoco.mj_versionString() >= "3.3"
