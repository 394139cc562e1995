"""A host started by a command, and what a task knows of a real arm."""

from __future__ import annotations

import numpy as np
import pytest

from actor.cli.eval import main
from actor.supervisor.child import ProcessFailed
from actor.supervisor.host_process import running_host
from controllers.config import ControlConfig
from controllers.robot import Mode
from handrail.errors import ConfigError, DeviceLost
from handrail.run_folder import create_run
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.mock.library import MockLibrary
from robot_env.arms.franka.mock.world import World
from robot_env.arms.franka.robot import FrankaRobot
from robot_env.arms.sim.config import MujocoConfig
from robot_env.client import HostClient
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.base import HOME


def run_of(name: str, folder, more: str = ""):
    text = f'[task]\nname = "{name}"\n{more}'
    return create_run(folder, name, make(name).spec.hash, text)


@pytest.mark.slow
def test_a_host_lives_as_long_as_the_command_that_wanted_it(tmp_path):
    run, task = run_of("reach", tmp_path / "run"), make("reach")
    with running_host(run, task, "mock") as client:
        assert client.peek().mode == Mode.IDLE
    with pytest.raises(DeviceLost, match="no robot host"):
        HostClient.connect(run.id, deadline=0.1)


@pytest.mark.slow
def test_a_host_that_finds_no_robot_ends_with_its_own_words(tmp_path):
    address = '[franka]\naddress = "127.0.0.1"\nrealtime = false\n'
    run, task = run_of("reach", tmp_path / "run", address), make("reach")
    words = "no robot answers at 127.0.0.1|needs pylibfranka"
    with pytest.raises(ProcessFailed, match=words), running_host(run, task, "franka"):
        pass


def test_a_task_whose_truth_nobody_can_measure_is_not_evaluated_on_a_robot(tmp_path):
    run = run_of("peg", tmp_path / "run")
    with pytest.raises(ConfigError, match="nobody can tell on a real arm whether task peg"):
        main([str(run.folder), "--robot", "franka", "--episodes", "1"])


@pytest.mark.parametrize(("name", "known"), [("reach", True), ("peg", False)])
def test_the_truth_of_a_real_arm_is_what_its_joints_say_or_nothing(name, known):
    task = make(name)
    world = World(task.scene(), "fr3", HOME)
    robot = FrankaRobot(
        FrankaConfig(), ControlConfig(), 10.0, MockLibrary(world), world.model, world.data,
        world=world,
    )  # fmt: skip
    core = HostCore(task, MujocoConfig(), ControlConfig(), robot=robot)
    snapshot, goal_estimate = core.reset(1)
    core.robot.simulated = False  # from here on as if it were a real one
    world.data.site_xpos[:] = 9.0
    privileged_state = core.privileged_state()
    if known:
        error = [task.named(privileged_state)[f"error_{axis}"] for axis in "xyz"]
        np.testing.assert_allclose(error, goal_estimate[:3] - snapshot.position, atol=1e-9)
    else:
        assert not privileged_state.any()
    robot.close()
