"""The controller's own kinematics are the simulator's, and so the arm's."""

# pyright: reportAttributeAccessIssue=false
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.kinematics import Q_HIGH, Q_LOW, READY, TOOL, forward, inverse, pose_of
from controllers.rotation import between, exp, log, multiply
from robot_env.arms.panda_mjcf import build_scene

MODEL = mujoco.MjModel.from_xml_string(build_scene(""))
DATA = mujoco.MjData(MODEL)
SITE = MODEL.site("tool").id

joints = st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7).map(
    lambda share: Q_LOW + np.array(share) * (Q_HIGH - Q_LOW)
)
vectors = st.tuples(*[st.floats(-1.7, 1.7)] * 3)


@settings(max_examples=100, deadline=None)
@given(joints)
def test_pose_and_jacobian_are_those_of_the_simulators_tool_site(q):
    pose, jacobian = np.empty(7), np.empty((6, 7))
    forward(q, np.array(TOOL), pose, jacobian)

    DATA.qpos[:7] = q
    mujoco.mj_kinematics(MODEL, DATA)
    mujoco.mj_comPos(MODEL, DATA)
    full = np.zeros((6, MODEL.nv))
    mujoco.mj_jacSite(MODEL, DATA, full[:3], full[3:], SITE)
    wxyz = np.zeros(4)
    mujoco.mju_mat2Quat(wxyz, DATA.site_xmat[SITE])

    assert pose[:3] == pytest.approx(DATA.site_xpos[SITE], abs=1e-9)
    assert abs(pose[3:] @ wxyz[[1, 2, 3, 0]]) == pytest.approx(1.0, abs=1e-9)
    assert jacobian == pytest.approx(full[:, :7], abs=1e-9)


def test_jacobian_is_the_derivative_of_the_pose():
    q, step = READY + 0.1, 1e-6
    pose, jacobian = np.empty(7), np.empty((6, 7))
    forward(q, np.array(TOOL), pose, jacobian)
    for i in range(7):
        moved = pose_of(q + step * np.eye(7)[i])
        assert (moved[:3] - pose[:3]) / step == pytest.approx(jacobian[:3, i], abs=1e-5)
        turned = between(tuple(pose[3:]), tuple(moved[3:]))
        assert np.array(turned) / step == pytest.approx(jacobian[3:, i], abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(vectors)
def test_log_undoes_exp_and_does_not_care_about_the_quaternions_sign(v):
    q = exp(v)
    assert np.array(log(q)) == pytest.approx(np.array(v), abs=1e-9)
    assert np.array(log((-q[0], -q[1], -q[2], -q[3]))) == pytest.approx(np.array(v), abs=1e-9)
    assert np.linalg.norm(multiply(q, q)) == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.35, 0.6), st.floats(-0.25, 0.25), st.floats(0.05, 0.45), st.floats(-0.5, 0.5))
def test_inverse_kinematics_reaches_the_workspace_within_the_limits(x, y, z, yaw):
    goal = np.array([x, y, z, np.cos(yaw / 2), np.sin(yaw / 2), 0.0, 0.0])
    q = READY.copy()
    assert inverse(q, np.array(TOOL), goal, READY, Q_LOW, Q_HIGH) < 1e-6
    assert pose_of(q)[:3] == pytest.approx(goal[:3], abs=1e-6)
    assert ((q > Q_LOW) & (q < Q_HIGH)).all()
