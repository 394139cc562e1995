"""An arm at rest, a simulated one and a critic, for tests of the chain."""

from __future__ import annotations

import numpy as np
from past_ticks import remembering

from controllers.config import ControlConfig
from controllers.kinematics import READY
from controllers.packed import MEAS, MEASUREMENT_SIZE, pack_params
from handrail.risk_critic.format import Layer, RiskCritic, pack_critic
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot

CONFIG = ControlConfig()
PARAMS = pack_params(CONFIG, 10.0)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.5, 0.0, 0.3])


def rest() -> np.ndarray:
    measurement = np.zeros(MEASUREMENT_SIZE)
    measurement[MEAS.q : MEAS.q + 7], measurement[MEAS.elapsed] = READY, 1.0
    measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49] = np.diag(
        [2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]
    ).ravel()
    return measurement


def arm(control: ControlConfig = CONFIG, objects: str = "") -> MujocoRobot:
    scene = build_scene(objects, gripper=False)
    robot = remembering(MujocoRobot(scene, MujocoConfig(), control, 10.0))
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(1))
    return robot


def alarm(sign: float = 1.0) -> np.ndarray:
    """Return a critic whose risk is near 1 (or near 0) whatever it sees."""
    layer = Layer(np.zeros((1, 22, 1), np.float32), np.full((1, 1), 6.0 * sign, np.float32))
    zero, one = np.zeros(22, np.float32), np.ones(22, np.float32)
    hidden = Layer(np.zeros((1, 22, 4), np.float32), np.zeros((1, 4), np.float32))
    out = Layer(np.zeros((1, 4, 1), np.float32), layer.bias)
    return pack_critic(RiskCritic(1, zero, one, (hidden, out), 0.3, 0.15))
