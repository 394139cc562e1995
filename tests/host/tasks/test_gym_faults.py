"""Environments that misbehave: each fault is named with the environment, the step and the cure."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_envs import AT, LIMIT

from actor.config import load_config, parse_config
from actor.loop.make_env import make_env, make_task
from handrail.config import to_dict
from handrail.errors import ConfigError
from robot_env.gym.config import GymConfig
from robot_env.gym.env import GymEnv
from robot_env.gym.slow_calls import SlowCallWatch
from robot_env.gym.task import GymTask
from robot_env.tasks.config import TaskConfig

NAME = "gym:odd_envs:Odd-v0"
KIT = Path(__file__).resolve().parents[2] / "kit"

IN_A_STEP = [
    ("shape", r"returned the observation as an array of shape \(4,\).*right is Box"),
    ("text", r"returned the observation as an array of shape \(3,\) and dtype <U1"),
    ("reward_none", "the reward None .NoneType.; right is one finite number"),
    ("reward_array", r"the reward an array of shape \(1,\)"),
    ("reward_text", "the reward '1'"),
    ("reward_nan", "the reward nan"),
    ("reward_huge", r"the reward 1e\+39, more than float32 holds"),
    ("old_step", r"returned 4 values .*right is \(observation, reward, terminated, truncated"),
    ("flag", "terminated = None .NoneType.; right is a bool"),
]


def odd(fault: str, **config: Any) -> GymEnv:
    kwargs = {"fault": fault, **config.pop("kwargs", {})}
    return GymEnv(GymTask(TaskConfig(name=NAME), GymConfig(kwargs=kwargs, **config)))


def run(env: GymEnv, steps: int = LIMIT) -> list[dict[str, Any]]:
    env.reset(seed=0)
    infos = []
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(np.zeros(2, np.float32))
        infos.append(info)
        if terminated or truncated:
            break
    return infos


@pytest.mark.parametrize(("fault", "words"), IN_A_STEP)
def test_what_a_step_returned_and_what_would_be_right_is_said(fault: str, words: str):
    with pytest.raises(ConfigError, match=f"{NAME}: step {AT} .*{words}"):
        run(odd(fault))


def test_a_reward_that_overflows_once_it_is_scaled_is_refused():
    with pytest.raises(ConfigError, match=r"step 0, scaled, returned the reward 5e\+38"):
        run(odd("", reward_scale=1e39))


def test_a_reset_of_the_old_kind_is_named():
    with pytest.raises(ConfigError, match=f"{NAME}: reset returned an array.*with a dict"):
        run(odd("old_reset"))


def test_success_that_is_told_in_the_last_info_only_counts():
    infos = run(odd("late_success", success_key="is_success"))
    assert [info["success"] for info in infos] == [False] * (len(infos) - 1) + [True]


def test_success_that_is_never_told_is_an_error_at_the_end_of_the_episode():
    with pytest.raises(ConfigError, match=r"step 9 ended the episode.*'is_success'.*nothing"):
        run(odd("", success_key="is_success"))


def test_a_float_image_is_no_state_of_12288_numbers():
    with pytest.raises(ConfigError, match=r"\(64, 64, 3\) float32.*12288.*FlattenObservation"):
        odd("float_image")


def test_a_call_that_does_not_return_is_said_once_while_it_goes_on():
    said: list[str] = []
    watch = SlowCallWatch(said.append, after=0.1)
    with watch.call("gym:Odd-v0: step 7"):
        end = time.monotonic() + 20.0
        while not said and time.monotonic() < end:
            time.sleep(0.01)
        assert said, "it is said before the call returns"
        time.sleep(0.3)
    with watch.call("gym:Odd-v0: step 8"):
        pass
    watch.close()
    assert len(said) == 1
    assert said[0].startswith("gym:Odd-v0: step 7 has not returned for")


def test_an_exclusive_device_is_opened_once_for_task_and_environment(tmp_path: Path):
    device = tmp_path / "device"
    table = {
        "task": {"name": NAME},
        "gym": {"kwargs": {"device": str(device)}},
        "learner": {"preset": "rlpd"},
        "run": {"demos": 0},
    }
    config = parse_config(table)
    task = make_task(config)
    env = make_env(config, task)
    run(env)  # type: ignore[arg-type]
    env.close()
    assert len(device.with_suffix(".log").read_text().splitlines()) == 1
    assert not device.exists()


def test_a_list_is_an_argument_from_a_file_and_from_the_command_line():
    given = load_config(NAME, ["--gym.kwargs", "sizes", "[3, 4]", "fault", "late_success"])
    assert parse_config(to_dict(given)) == given
    task = make_task(given)
    assert isinstance(task, GymTask)
    assert task.take().unwrapped.sizes == [3, 4]
    assert parse_config({**to_dict(given), "gym": {"kwargs": {"sizes": [3, 4]}}}).gym.kwargs == {
        "sizes": (3, 4)
    }


def test_a_module_in_the_current_folder_is_found_by_an_installed_command(tmp_path: Path):
    (tmp_path / "my_env.py").write_text(
        (KIT / "odd_envs.py").read_text().replace("odd_envs", "my_env")
    )
    program = (
        "import sys; sys.path.remove(''); from robot_env.gym.make import make_registered; "
        "print(make_registered('my_env:Odd-v0', {}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Odd" in done.stdout, done.stderr
