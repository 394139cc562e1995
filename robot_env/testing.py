"""Suites that an arm, a camera, a device, a task or an environment of one's own must pass.

Inherit a class in a test file of yours, give it its fixture, and pytest runs it:

    class TestMyArm(ArmConformance):
        @pytest.fixture
        def arm(self):
            arm = MyArm(...)
            yield arm
            arm.close()

Handrail's own backends go through the same suites. Numbers that depend on a device are attributes
of the class. `pytest.register_assert_rewrite("robot_env.testing")` in a conftest.py shows the
values of an assertion that fails. Nothing here imports pytest.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np

from controllers.config import ControlConfig
from controllers.robot import Fault, Mode, Request, Snapshot
from handrail.errors import ConfigError, DeviceLost
from robot_env.gym.config import GymConfig
from robot_env.gym.env import GymEnv
from robot_env.gym.probe import probe_env
from robot_env.gym.task import GymTask
from robot_env.protocol import Env
from robot_env.recorder.ring_record import memory_ring_view, newest_ticks
from robot_env.tasks.__main__ import evaluate
from robot_env.tasks.base import DOWN, HOME
from robot_env.tasks.config import TaskConfig


class ArmConformance:
    """An arm behind the chain, see `arms.base.ControlledArm`; fixture `arm`, free to move."""

    start: ClassVar[np.ndarray] = np.array([0.5, 0.0, 0.3])  # base frame [m], free all around
    held: ClassVar[float] = 0.002  # [m], how far a holding arm may be from its target
    lag: ClassVar[float] = 0.012  # [m], how far behind a target that moves at 4 cm/s
    followed: ClassVar[float] = 0.004  # [m], how far a second after the target has stopped
    first_torque: ClassVar[float] = 1.0  # [N m], the largest of the first tick

    def torques(self, arm: Any) -> np.ndarray:
        """Return the torques that were sent since control began (n, 7) [N m]."""
        return newest_ticks(arm.ring_view, 12_000)["tick.torque"]

    def begin(self, arm: Any) -> Snapshot:
        """Reset to the start, with the tool pointing down."""
        q = arm.inverse_kinematics(self.start, DOWN, HOME)
        arm.ring_view = memory_ring_view(12_000)
        return arm.reset(q, 0.0, np.random.default_rng(0))

    def go(self, arm: Any, target: np.ndarray, ticks: int = 100) -> Snapshot:
        """Ask for a target [m] and run one policy period."""
        seq = arm.snapshot().request_seq + 1
        return arm.run(Request(seq, 0, target, DOWN, 0.0), ticks)

    def test_it_holds_for_ten_seconds(self, arm):
        """It stays at its target, without a fault."""
        self.begin(arm)
        far = [np.linalg.norm(self.go(arm, self.start).position - self.start) for _ in range(100)]
        snapshot = arm.snapshot()
        assert (snapshot.mode, snapshot.fault) == (Mode.FOLLOWING, Fault.NONE)
        assert max(far) < self.held, f"{1e3 * max(far):.2f} mm"
        assert abs(snapshot.time - 10.0) < 0.2

    def test_it_follows_targets_at_ten_hertz(self, arm):
        """It goes round a circle, stays close, and isn't slowed to a stop by the energy gate."""
        snapshot = self.begin(arm)
        before = snapshot.position
        circle = [
            self.start + 0.03 * np.array([0.0, np.sin(a), 1.0 - np.cos(a)])
            for a in np.linspace(0.0, 2.0 * np.pi, 50)
        ]
        lag, travelled = [], 0.0
        for target in circle:
            snapshot = self.go(arm, target)
            travelled += float(np.linalg.norm(snapshot.position - before))
            before = snapshot.position
            lag.append(np.linalg.norm(snapshot.position - target))
        assert max(lag) < self.lag, f"{1e3 * max(lag):.1f} mm"
        assert travelled > 0.8 * 2.0 * np.pi * 0.03
        for _ in range(10):
            snapshot = self.go(arm, circle[-1])
        assert np.linalg.norm(snapshot.position - circle[-1]) < self.followed
        assert snapshot.gated_ticks < 20, "a frozen arm is no safe arm"

    def test_the_first_torque_is_small_and_no_step_is_larger_than_the_limit(self, arm):
        """Control begins softly and stays within the rate limit."""
        self.begin(arm)
        for sign in (1.0, -1.0, 1.0):
            self.go(arm, self.start + np.array([0.0, 0.03 * sign, 0.0]))
        torque = self.torques(arm)
        assert np.isfinite(torque).all()
        assert np.abs(torque[0]).max() <= self.first_torque
        assert np.abs(np.diff(torque, axis=0)).max() <= ControlConfig().torque_rate + 1e-9

    def test_a_stop_is_kept_whatever_is_asked(self, arm):
        """After `stop` the mode is soft stop, the fault is named, and targets move nothing."""
        self.begin(arm)
        snapshot = self.go(arm, self.start)
        arm.stop(Fault.COMMANDED)
        for _ in range(5):
            snapshot = self.go(arm, self.start + np.array([0.0, 0.05, 0.0]))
        assert (snapshot.mode, snapshot.fault) == (Mode.SOFT_STOP, Fault.COMMANDED)
        assert np.linalg.norm(snapshot.position - self.start) < 0.02

    def test_it_may_be_closed_twice(self, arm):
        """`close` is safe to call again."""
        arm.close()
        arm.close()


class CameraConformance:
    """Cameras as `cameras.sim.SimCameras`: `images`, `render`, `close`; fixture `cameras`."""

    camera: ClassVar[str] = "front"  # one that it has

    def test_images_are_colour_bytes_of_their_own(self, cameras):
        """Each image is (H, W, 3) uint8, shows something, and is a copy."""
        images = cameras.images()
        assert self.camera in images
        for name, image in images.items():
            assert (image.dtype, image.ndim, image.shape[-1]) == (np.uint8, 3, 3), name
            assert image.std() > 1.0, f"{name} shows nothing"
            kept = image.copy()
            cameras.images()
            assert np.array_equal(image, kept), f"{name} is changed by the next one"

    def test_a_picture_has_the_size_that_was_asked(self, cameras):
        """`render` returns (height, width, 3) uint8."""
        picture = cameras.render(self.camera, 64, 48)
        assert (picture.shape, picture.dtype) == ((48, 64, 3), np.uint8)

    def test_a_camera_that_is_not_there_is_an_error_with_its_name(self, cameras):
        """The message names it."""
        _raises(DeviceLost, "no_such_camera", lambda: cameras.render("no_such_camera", 64, 48))

    def test_they_may_be_closed_twice(self, cameras):
        """`close` is safe to call again."""
        cameras.close()
        cameras.close()


class EnvConformance:
    """An environment, see `protocol.Env`; fixture `env`."""

    def test_it_gives_what_its_spec_says(self, env: Env):
        """State, reward, flags and info have the kinds that a session relies on."""
        spec = env.task.spec
        observation, info = env.reset(seed=0)
        for _ in range(3):
            assert observation["state"].dtype == np.float32
            assert observation["state"].shape == (spec.state,)
            assert isinstance(info["success"], bool)
            assert {"privileged_state", "script_inputs"} <= set(info)
            observation, reward, terminated, truncated, info = env.step(np.zeros(spec.action))
            assert np.isfinite(np.float32(reward))
            assert (type(terminated), type(truncated)) == (bool, bool)
            assert info["filter_delta"].shape == (spec.action,)
            assert np.isfinite(info["cost"])
            if terminated or truncated:
                observation, info = env.reset(seed=0)

    def test_the_same_seed_gives_the_same_episode_bit_for_bit(self, env: Env):
        """A run can be repeated."""
        assert np.array_equal(_states(env, 7), _states(env, 7))

    def test_starts_differ_between_seeds(self, env: Env):
        """There is something to generalise over."""
        first, second = (env.reset(seed=seed)[0]["state"] for seed in (1, 2))
        assert np.abs(first - second).max() > 0.01

    def test_an_episode_ends_at_its_horizon_at_the_latest_and_by_one_flag(self, env: Env):
        """Time that runs out truncates; an end terminates; never both."""
        env.reset(seed=0)
        steps, terminated, truncated = 0, False, False
        while not (terminated or truncated):
            assert steps < env.task.spec.horizon
            _, _, terminated, truncated, _ = env.step(np.zeros(env.task.spec.action))
            steps += 1
        assert terminated != truncated

    def test_an_action_that_is_no_action_is_refused(self, env: Env):
        """Another shape, or a value that isn't finite, never reaches the robot."""
        env.reset(seed=0)
        size = env.task.spec.action
        for action in (np.zeros(size + 1), np.full(size, np.nan)):
            _raises(ConfigError, f"{size} finite values", lambda wrong=action: env.step(wrong))


class TaskConformance(EnvConformance):
    """A task of the simulated arm in a `RobotEnv`; fixture `env`."""

    expert_success: ClassVar[float] = 0.95  # [-], at least, of 20 starts
    demo_success: ClassVar[float] = 0.75  # [-], at least, of 15 starts, by a person's hand
    trivial_success: ClassVar[float] = 0.5  # [-], at most, of 40 starts
    expert_force: ClassVar[float] = 100.0  # [N], the median peak
    order: ClassVar[float] = 15.0  # [-], the largest value of a state

    def test_expert_solves_the_task(self, env):
        """From any start, and gently."""
        result = evaluate(env, env.task.expert(np.random.default_rng(0)), 20)
        assert result["success"] >= self.expert_success, result
        assert result["force_peak"] < self.expert_force, result

    def test_demonstrations_mostly_succeed_though_the_hand_errs(self, env):
        """Recording demonstrations comes to an end."""
        result = evaluate(env, env.task.expert(np.random.default_rng(0), noise=1.0), 15)
        assert result["success"] >= self.demo_success, result

    def test_no_trivial_policy_solves_the_task(self, env):
        """There is something to learn."""
        for name, factory in env.task.baselines.items():
            result = evaluate(env, factory(np.random.default_rng(0)), 40)
            assert result["success"] <= self.trivial_success, (name, result)

    def test_every_part_of_the_observation_is_of_order_one(self, env):
        """Networks see numbers of one size."""
        expert = env.task.expert(np.random.default_rng(0), noise=1.0)
        observation, info = env.reset(seed=3)
        expert.reset()
        done, states = False, [observation["state"]]
        while not done:
            action = expert.act(*info["script_inputs"])
            observation, _, terminated, truncated, info = env.step(action)
            states.append(observation["state"])
            done = terminated or truncated
        assert np.isfinite(states).all()
        assert np.abs(states).max() < self.order
        assert env.task.spec.state == len(states[0])


class IntervenerConformance:
    """A teleoperation device, or whoever may take over; fixtures `intervener` and `env`."""

    patience: ClassVar[float] = 0.05  # [s], of a read: the arm waits for it at every step

    def test_it_reads_an_action_or_nothing_and_keeps_nobody_waiting(self, intervener, env: Env):
        """`read` returns None while its hands are off, else (A,) finite values."""
        for noise_free in (False, True):
            observation, info = env.reset(seed=0)
            intervener.reset(noise_free)
            waits = []
            for _ in range(30):
                began = time.monotonic()
                action = intervener.read(observation, info)
                waits.append(time.monotonic() - began)
                if action is None:
                    action = np.zeros(env.task.spec.action)
                assert np.shape(action) == (env.task.spec.action,)
                assert np.isfinite(action).all()
                observation, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    break
            assert np.median(waits) < self.patience

    def test_a_run_can_be_gone_on_with(self, intervener, env: Env):
        """`resume` takes what was driven so far."""
        intervener.resume(10, 2, 3)
        observation, info = env.reset(seed=0)
        intervener.reset()
        intervener.read(observation, info)


class GymEnvConformance:
    """A gymnasium environment by its name; needs no fixture."""

    name: ClassVar[str]  # "gym:my_module:MyEnv-v0"
    config: ClassVar[GymConfig] = GymConfig()
    horizon: ClassVar[int | None] = None  # [steps], where it has no time limit
    deadline: ClassVar[float] = 60.0  # [s], of one call

    def test_it_behaves_to_the_end_of_an_episode(self):
        """As `handrail check-env` tries it, in a process of its own."""
        task = TaskConfig(name=self.name, horizon=self.horizon)
        found = probe_env(
            task, self.config, print, steps=100_000, seconds=60.0, deadline=self.deadline
        )
        assert found.ended, f"no end within {found.steps} steps"
        assert not found.notes

    def test_the_same_seed_gives_the_same_episode_bit_for_bit(self):
        """A run can be repeated."""
        env = GymEnv(GymTask(TaskConfig(name=self.name, horizon=self.horizon), self.config))
        try:
            assert np.array_equal(_states(env, 7), _states(env, 7))
        finally:
            env.close()


def _states(env: Env, seed: int) -> np.ndarray:
    observation, _ = env.reset(seed=seed)
    states, actions = [observation["state"]], np.random.default_rng(1)
    for _ in range(8):
        observation, _, terminated, truncated, _ = env.step(
            actions.uniform(-1, 1, env.task.spec.action)
        )
        states.append(observation["state"])
        if terminated or truncated:
            break
    return np.array(states)


def _raises(kind: type[Exception], words: str, call: Any) -> None:
    said = f"no {kind.__name__}"
    try:
        call()
    except kind as error:
        said = str(error)
    assert words in said, f"right is a {kind.__name__} that says {words!r}, got: {said}"
