"""Each model of arm is kept within its own joint ranges and speeds."""

import numpy as np
import pytest
from past_ticks import past, remembering

from benchmarks.kit.numpy_chain import top_speed as expected_top
from controllers.config import ControlConfig
from controllers.joint_limit_avoidance import joint_speed_limit
from controllers.joint_limits import FR3, PANDA, JointLimits
from controllers.kinematics import DQ_MAX, pose_of
from controllers.packed import PARAM, pack_params, unpack_joint_limits
from controllers.robot import Fault, Mode, Request, Snapshot
from handrail.errors import Error
from robot_env.arms.base import reach_pose
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.mock.library import MockLibrary
from robot_env.arms.franka.mock.world import World
from robot_env.arms.franka.robot import FrankaRobot
from robot_env.arms.panda_mjcf import build_scene

ANYWHERE = ControlConfig(box_low=(-1.0, -1.0, -1.0), box_high=(1.0, 1.0, 1.5), max_tilt=3.1)
MIDDLE = np.array([0.0, -0.3, 0.0, -2.0, 0.0, 1.6, 0.8])  # [rad]


def push(joint: int, sign: float, limits: JointLimits) -> tuple[Snapshot, np.ndarray]:
    """Lead the tool to where a joint of an FR3 would have to be 0.6 rad past its end.

    Returns the last snapshot and how far inside its range the joint was (n,) [rad].
    """
    end = FR3.high[joint] if sign > 0.0 else FR3.low[joint]
    q, goal = MIDDLE.copy(), MIDDLE.copy()
    q[joint], goal[joint] = end - 0.25 * sign, end + 0.6 * sign
    world = World(build_scene("", gripper=False), "fr3", q)
    world.model.jnt_limited[:7] = 0  # nothing but the chain holds the joint
    robot = FrankaRobot(
        FrankaConfig(), ANYWHERE, 10.0, MockLibrary(world), world.model, world.data, world=world
    )
    remembering(robot)
    robot.params[:] = pack_params(ANYWHERE, 10.0, robot.tool, limits)
    robot.begin()
    snapshot = robot.snapshot()
    for n in range(40):
        pose = pose_of(q + min(1.0, (n + 1) / 20) * (goal - q), robot.tool)
        snapshot = robot.run(Request(n + 1, 0, pose[:3], pose[3:], 0.0), 100)
    inside = sign * (end - past(robot, "reading.q", 4000)[:, joint])
    return snapshot, inside


@pytest.mark.parametrize(
    ("joint", "sign"), [(1, 1.0), (3, 1.0), (4, -1.0), (4, 1.0), (5, -1.0), (5, 1.0)]
)
@pytest.mark.slow
def test_an_fr3_is_held_inside_its_ranges_by_the_barrier(joint, sign):
    snapshot, inside = push(joint, sign, FR3)
    assert (snapshot.mode, snapshot.fault) == (Mode.FOLLOWING, Fault.NONE)
    assert inside.min() > 0.0
    assert inside.min() < ANYWHERE.joint_margin, "it was never pushed at its end"
    turns = np.count_nonzero(np.diff(np.sign(np.diff(inside[-1000:]))))
    assert turns < 10, "it rings"


def test_the_pandas_barrier_lets_joint_six_of_an_fr3_past_its_end():
    _, inside = push(5, -1.0, PANDA)
    assert inside.min() < -0.05


def test_the_speed_limit_of_an_fr3_falls_towards_the_ends_and_a_pandas_does_not():
    rng = np.random.default_rng(0)
    for limits in (FR3, PANDA):
        params = pack_params(ControlConfig(), 10.0, joints=limits)
        for _ in range(300):
            q = rng.uniform(limits.low - 0.01, limits.high + 0.01)
            dq = rng.uniform(-1.0, 1.0, 7) * limits.speed
            top = [joint_speed_limit(params, i, q[i], dq[i]) for i in range(7)]
            np.testing.assert_allclose(top, expected_top(limits, q, dq), rtol=1e-12)
            assert (np.array(top) <= limits.speed).all()
    panda, fr3 = (pack_params(ControlConfig(), 10.0, joints=limits) for limits in (PANDA, FR3))
    for i in range(7):
        assert joint_speed_limit(panda, i, PANDA.high[i], 1.0) == DQ_MAX[i]
        assert joint_speed_limit(fr3, i, FR3.high[i], 1.0) == 0.0
        assert joint_speed_limit(fr3, i, FR3.high[i], -1.0) == FR3.speed[i]


def test_the_parameters_hold_the_arms_limits():
    params = pack_params(ControlConfig(), 10.0, joints=FR3)
    for mine, found in zip(FR3, unpack_joint_limits(params), strict=True):
        np.testing.assert_array_equal(mine, found)
    assert (
        pack_params(ControlConfig(), 10.0)[PARAM.joint_repulsion] == ControlConfig().joint_repulsion
    )


def test_a_start_that_only_a_panda_can_reach_is_refused_for_an_fr3():
    q = np.array([0.0, -0.4, 0.0, -1.6, 0.0, 0.3, 0.8])
    pose = pose_of(q)
    params = [pack_params(ControlConfig(), 10.0, joints=limits) for limits in (PANDA, FR3)]
    found = reach_pose(params[0], pose[:3], pose[3:], q)
    np.testing.assert_allclose(pose_of(found), pose, atol=1e-6)
    with pytest.raises(Error, match="can't reach"):
        reach_pose(params[1], pose[:3], pose[3:], q)
