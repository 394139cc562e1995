"""The maze: corridors that don't leak, walls as stiff as stated, rules that bite, honest data."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from actor.cli.risk.collisions import PLACES, WINDOW, collide, places
from actor.config import load_config
from actor.loop.episode import run_episode
from actor.loop.policies import ScriptedActingPolicy
from controllers.robot import Authority, Request, Snapshot
from handrail.config import from_dict
from handrail.errors import ConfigError, StorageError
from handrail.link.transition_codec import decode_row, encode_row
from handrail.risk_critic.violation import Limits, violates
from handrail.transition import Source
from learner.risk.episodes import load_episodes
from robot_env.arms.sim.config import MujocoConfig
from robot_env.env import RobotEnv
from robot_env.host.core import HostCore
from robot_env.tasks import make
from robot_env.tasks.__main__ import evaluate
from robot_env.tasks.base import FunctionPolicy
from robot_env.tasks.config import TaskConfig
from robot_env.tasks.costs import cost
from robot_env.tasks.maze import (
    BONUS,
    REACH,
    SOFTEST,
    STIFFEST,
    TOOL_HEIGHT,
    Maze,
    action_of,
    stiffness_of,
)
from robot_env.tasks.scenes.maze_board import RADIUS
from robot_env.tasks.scenes.maze_layout import (
    CELLS,
    LAYOUTS,
    PITCH,
    WALL,
    cell_at,
    corridors,
    locate_on_path,
    middle,
    path_length,
    point_ahead,
    walls,
)
from robot_env.tasks.scenes.wall_stiffness import measure

CONTROL = load_config("maze").control  # of the shipped config, whose stretch lets the rules bite


def made(**values) -> RobotEnv:
    task = make("maze", TaskConfig("maze", **values))
    return RobotEnv(HostCore(task, MujocoConfig(), CONTROL), task)


@pytest.fixture(scope="module")
def envs():
    envs = {layout: made(layout=layout) for layout in LAYOUTS}
    yield envs
    for env in envs.values():
        env.close()


def reached(layout: int, start: np.ndarray, shut: tuple[int, int] | None = None) -> np.ndarray:
    """Return where the middle of the peg can get to, on a grid of 1 mm; a shut cell is filled."""
    size = round(CELLS * PITCH * 1000)
    x, y = np.meshgrid(*2 * [(np.arange(size) + 0.5) / 1000], indexing="ij")
    blocked = np.zeros((size, size), bool)
    maze = corridors(layout)
    boxes = list(walls(maze))
    if shut is not None:
        low, high = middle(shut) - PITCH / 2, middle(shut) + PITCH / 2
        boxes.append((*low, *high))
    for a, b, c, d in boxes:
        dx = np.maximum(np.maximum(a - x, x - c), 0.0)
        dy = np.maximum(np.maximum(b - y, y - d), 0.0)
        blocked |= np.hypot(dx, dy) < RADIUS
    seen = np.zeros_like(blocked)
    queue = deque([tuple((start * 1000).astype(int))])
    while queue:
        i, j = queue.popleft()
        if not (0 <= i < size and 0 <= j < size) or seen[i, j] or blocked[i, j]:
            continue
        seen[i, j] = True
        queue.extend([(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)])
    return seen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_corridor_leaks(layout: int):
    maze = corridors(layout)
    free = reached(layout, middle(maze.start))
    inside = {cell_at(maze, point) for point in (np.argwhere(free) + 0.5) / 1000}
    assert inside == set(maze.cells)
    for i, j in np.argwhere(free)[::7]:
        x, y = int(i // (PITCH * 1000)), int(j // (PITCH * 1000))
        assert (x, y) in maze.cells
    way = [maze.start]
    while way[-1] != maze.goal:
        way.append(maze.links[way[-1]])
    goal = tuple((middle(maze.goal) * 1000).astype(int))
    assert free[goal]
    for cell in way[1:-1]:  # every cell of the way is needed: there is no other way round
        assert not reached(layout, middle(maze.start), cell)[goal]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_corridor_is_as_wide_as_stated(layout: int):
    for a, b, c, d in walls(corridors(layout)):
        assert min(c - a, d - b) == pytest.approx(WALL)
    assert pytest.approx(0.040) == PITCH - WALL


def test_the_held_out_layouts_are_the_mirror_and_a_maze_with_a_dead_end():
    first, second, third = map(corridors, LAYOUTS)
    mirrored = {(x, CELLS - 1 - y) for x, y in first.cells}
    assert mirrored == set(second.cells)
    entered = set(third.links.values())
    assert [c for c in third.links if c not in entered and c != third.start] == [(5, 2)]
    with pytest.raises(ConfigError, match="layout must be one of"):
        make("maze", TaskConfig("maze", layout=4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_way_to_go_falls_along_the_corridor(layout: int):
    maze = corridors(layout)
    goal = middle(maze.goal) + 0.003
    point, before = middle(maze.start), math.inf
    for _ in range(1000):
        to_go = locate_on_path(maze, point, goal).to_go
        if to_go < 1e-9:
            break
        assert to_go < before
        before = to_go
        point = point_ahead(maze, point, goal, 0.002)
    assert np.allclose(point, goal)
    whole = path_length(maze, maze.start, goal)
    assert whole > 1.5 * np.linalg.norm(goal - middle(maze.start))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_expert_solves_every_layout_without_a_violation(envs, layout: int):
    env = envs[layout]
    result = evaluate(env, env.task.expert(np.random.default_rng(0)), 20)
    assert result["success"] >= 0.95
    assert result["force_max"] < 20.0


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_demonstrations_mostly_succeed_though_the_hand_errs(envs, layout: int):
    env = envs[layout]
    result = evaluate(env, env.task.expert(np.random.default_rng(0), noise=1.0), 15)
    assert result["success"] >= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_trivial_policy_finds_the_way(envs, layout: int):
    env = envs[layout]
    assert set(env.task.baselines) == {"straight", "push_wiggle", "random"}
    for trivial, factory in env.task.baselines.items():
        result = evaluate(env, factory(np.random.default_rng(0)), 6)
        assert result["success"] <= 0.2, trivial


def test_the_same_seed_gives_the_same_episode_bit_for_bit(envs):
    env = envs[3]
    runs = []
    for _ in range(2):
        observation, _ = env.reset(seed=11)
        states, actions = [observation["state"]], np.random.default_rng(1)
        for _ in range(40):  # long enough to meet walls
            observation, *_ = env.step(actions.uniform(-1, 1, env.task.spec.action))
            states.append(observation["state"])
        runs.append(np.array(states))
    assert np.array_equal(runs[0], runs[1])


def test_no_wall_is_observed(envs):
    core = envs[1].host
    snapshot, goal_estimate = core.reset(5)
    views = [env.task.observe(snapshot, goal_estimate, np.zeros(4), 0) for env in envs.values()]
    assert all(np.array_equal(views[0], view) for view in views)


def test_stiffness_of_the_action_reaches_the_spring_and_only_across(envs):
    env = envs[1]
    env.reset(seed=0)
    _, _, _, _, soft = env.step(np.array([0.0, 0.0, -1.0, 0.0]))
    assert soft["snapshot"].stiffness[:2] == pytest.approx([SOFTEST, (SOFTEST * STIFFEST) ** 0.5])
    assert soft["snapshot"].stiffness[2] == CONTROL.stiffness[2]
    assert soft["executed_action"][2:] == pytest.approx([-1.0, 0.0], abs=1e-5)
    _, _, _, _, stiff = env.step(np.array([0.0, 0.0, 1.0, 1.0]))
    assert stiff["snapshot"].stiffness[:2] == pytest.approx([STIFFEST, STIFFEST])
    view = env.task.observe(stiff["snapshot"], env.goal_estimate, np.zeros(4), 1)
    seen = env.task.spec.part(view, "stiffness")
    assert seen == pytest.approx([math.log(STIFFEST / SOFTEST)] * 2)


@pytest.mark.parametrize("action", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_stiffness_and_action_are_inverse(action: float):
    assert action_of(stiffness_of(np.full(2, action))) == pytest.approx(np.full(2, action))


@pytest.mark.parametrize(
    ("field", "value"), [("wall_stiffness", 10.0), ("force_limit", 0.0), ("energy_budget", -1.0)]
)
def test_a_value_out_of_range_is_refused(field: str, value: float):
    with pytest.raises(ConfigError, match=field):
        from_dict(TaskConfig, {"name": "maze", field: value}, "task")


def test_without_the_stiffness_action_the_config_s_stiffness_holds():
    task = make("maze", TaskConfig("maze", stiffness_action=False))
    request = task.request(Snapshot(), np.array([1.0, -1.0]), 0)
    assert task.spec.action == 2
    assert request.stiffness == (0.0, 0.0, 0.0, 0.0)
    scale = task.value("action_scale")
    assert np.allclose(request.position, [scale, -scale, TOOL_HEIGHT])


def bang(t: int, rng: np.random.Generator | None) -> np.ndarray:
    side = 1.0 if (t // 10) % 2 else -1.0
    return np.array([side, side, 1.0, 1.0])


def flips(t: int, rng: np.random.Generator) -> np.ndarray:
    return np.array([np.sign(np.sin(2.0 * t)), np.sign(np.sin(1.1 * t)), *(2 * [(-1.0) ** t])])


@pytest.mark.parametrize("act", [lambda t, rng: rng.uniform(-1.0, 1.0, 4), bang, flips])
def test_no_policy_gets_more_energy_than_is_allowed(envs, act):
    env = envs[1]
    for start in range(3):
        _, info = env.reset(options={"start": start})
        rng = np.random.default_rng(start)
        for t in range(env.task.horizon):
            _, _, _, _, info = env.step(act(t, rng))
        assert env.host.robot.energy_used <= 1.0
        assert info["energy"] > 1.0  # the arm did move
        assert info["privileged_state"]["work"] == pytest.approx(env.host.robot.work)


def drive(env: RobotEnv, action: list[float], steps: int = 40) -> list[dict]:
    env.reset(options={"start": 0})
    return [env.step(np.array(action))[4] for _ in range(steps)]


def test_a_stiff_push_into_a_wall_breaks_the_force_rule_and_a_soft_one_does_not(envs):
    stiff = drive(envs[1], [0.0, -1.0, 1.0, 1.0])
    soft = drive(envs[1], [0.0, -1.0, 1.0, 0.2])
    assert any(info["violation"] for info in stiff)
    assert not any(info["violation"] for info in soft)
    assert soft[-1]["force_peak"] > 3.0  # but it did touch


def test_the_energy_rule_counts_the_whole_episode(envs):
    env = envs[1]
    env.reset(options={"start": 0})
    spent, budget, rng = 0.0, env.task.value("energy_budget"), np.random.default_rng(0)
    broken = 0
    for t in range(env.task.horizon):
        _, _, _, _, info = env.step(bang(t, rng))
        snapshot = info["snapshot"]
        spent += snapshot.energy_injected
        over = spent > budget
        assert info["energy"] == pytest.approx(spent)
        assert info["violation"] == (over or snapshot.force_peak > env.task.value("force_limit"))
        assert info["cost"] == pytest.approx(snapshot.energy_injected + snapshot.energy_refused)
        broken += over
    assert broken > 0


def test_every_row_keeps_its_cost_and_violation(envs):
    env, rows, infos = envs[1], [], []
    driver = ScriptedActingPolicy(
        lambda: FunctionPolicy(lambda s, n, t: bang(t, None)), env.task.spec.action
    )
    run_episode(
        env, driver, seed=0, episode=0, source=Source.EVAL, sink=rows.append,
        after_step=infos.append,
    )  # fmt: skip
    assert [row.violation for row in rows[:-1]] == [info["violation"] for info in infos]
    assert [row.cost for row in rows[:-1]] == pytest.approx([info["cost"] for info in infos])
    assert any(row.violation for row in rows)
    assert not all(row.violation for row in rows)
    for row in rows:
        back = decode_row(encode_row(row, env.task.spec), env.task.spec)
        assert (back.cost, back.violation) == (row.cost, row.violation)


def test_cost_and_violation_are_functions_of_the_snapshot():
    snapshot = Snapshot(energy_injected=0.5, energy_refused=0.25, force_peak=41.0)
    assert cost(snapshot) == 0.75
    assert cost(snapshot, injected=2.0, refused=0.0) == 1.0
    assert violates(Limits(force=40.0), snapshot.force_peak)
    assert not violates(Limits(force=42.0), snapshot.force_peak, spent=1e9)
    assert violates(Limits(energy=2.0), snapshot.force_peak, spent=2.1)
    assert not violates(Limits(), snapshot.force_peak, spent=1e9)


def test_reward_is_the_distance_and_a_bonus(envs):
    env = envs[1]
    _, info = env.reset(options={"start": 1})
    expert = env.task.expert(np.random.default_rng(0))
    rewards, distances, terminated = [], [], False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(
            expert.act(info["snapshot"], info["goal_estimate"])
        )
        assert not truncated
        rewards.append(reward)
        gap = (info["goal_estimate"][:3] - info["snapshot"].position)[:2]
        distances.append(float(np.linalg.norm(gap)))
    assert np.allclose(rewards[:-1], -np.array(distances[:-1]) / REACH)
    assert rewards[-1] == pytest.approx(BONUS - distances[-1] / REACH)
    assert distances[-1] == pytest.approx(info["privileged_state"]["distance"], abs=1e-3)
    assert info["privileged_state"]["completed"] > 0.9
    assert np.diff(distances).max() > 0.005  # the S leads away from the goal on the way to it


@pytest.mark.parametrize(("asked", "within"), [(1e4, 0.2), (1e5, 0.3)])
def test_walls_are_as_stiff_as_stated(asked: float, within: float):
    for place, stiffness in measure(asked).items():
        assert stiffness == pytest.approx(asked, rel=within), place


def test_a_period_in_windows_is_the_same_period(envs):
    core = envs[1].host
    ends = []
    for parts in ((100,), (WINDOW,) * (100 // WINDOW)):
        snapshot, _ = core.reset(3)
        for seq in range(20):
            target = snapshot.target_position + np.array([0.0, 0.01, 0.0])
            request = Request(seq, int(Authority.POLICY), target, snapshot.target_quaternion, 0.0)
            for ticks in parts:
                snapshot = core.period(request, ticks)
                request = None
        ends.append(np.concatenate([snapshot.q, snapshot.dq, snapshot.target_position]))
    assert np.array_equal(*ends)


@pytest.mark.slow
def test_collisions_are_half_pushes_break_the_rule_and_repeat(envs):
    core = envs[1].host
    stretches = collide(core, 0, 1, 1000)
    ticks = [len(stretch.violation) for stretch in stretches]
    assert sum(ticks) == 1000 * WINDOW
    assert core.task.start is None
    forces = np.linalg.norm(np.concatenate([s.features for s in stretches])[:, 12:15], axis=1)
    broken = np.concatenate([s.violation for s in stretches])
    assert 0.0 < broken.mean() < 0.5
    assert np.array_equal(broken, forces > core.task.limits.force)
    again = collide(core, 0, 1, 1000)
    assert all(
        np.array_equal(a.features, b.features) for a, b in zip(stretches, again, strict=True)
    )
    assert len(set(places(core.task))) == PLACES


def test_pushes_begin_in_six_cells(envs):
    task = envs[1].task
    assert isinstance(task, Maze)
    core, begun = envs[1].host, set()
    for cell in places(task):
        task.start = cell
        _, goal_estimate = core.reset(0)
        begun.add(cell_at(task.maze, goal_estimate[3:5] - np.array([0.35, -0.15])))
    task.start = None
    assert begun == set(places(task))


def test_recorded_collisions_are_kept_and_never_mixed(tmp_path):
    from actor.cli.record import main

    run = tmp_path / "run"
    assert main(["maze", "--collisions", "1100", "--out", str(run)]) == 0
    files = sorted((run / "risk" / "data").iterdir())
    episodes = [episode for file in files for episode in load_episodes(file)[0]]
    assert sum(len(e.violation) for e in episodes) == 1100 * WINDOW
    assert {e.dt for e in episodes} == {CONTROL.dt}
    files[1].unlink()
    files[0].touch()
    stamp = files[0].stat().st_mtime_ns
    assert main(["--run", str(run), "--collisions", "1100"]) == 0
    assert files[0].stat().st_mtime_ns == stamp  # what was there is not made again
    again = [episode for file in files for episode in load_episodes(file)[0]]
    for a, b in zip(episodes, again, strict=True):
        assert np.array_equal(a.features, b.features)
        assert np.array_equal(a.violation, b.violation)
    with pytest.raises(StorageError, match="move it away"):
        main(["--run", str(run), "--collisions", "500"])


def test_collisions_of_another_task_are_refused(tmp_path):
    from actor.cli.record import main

    with pytest.raises(ConfigError, match="task 'maze', got 'reach'"):
        main(["reach", "--collisions", "100", "--out", str(tmp_path / "run")])


def test_a_spring_pulled_across_the_board_is_energy_that_the_meter_sees_and_the_chain_refuses():
    shares = {}
    for name, off in (("chain", ()), ("clip", ("target_error", "speed", "contact", "energy"))):
        task = make("maze", TaskConfig("maze"))
        control = replace(CONTROL, disabled_stages=off)
        core = HostCore(task, MujocoConfig(), control)
        env = RobotEnv(core, task)
        env.reset(options={"start": 0})
        for _ in range(40):
            env.step(np.array([0.0, -1.0, 1.0, 1.0], np.float32))  # into the nearest wall, stiff
        shares[name] = core.robot.energy_active
        assert core.robot.energy_used <= 1.0  # it never came out again
        env.close()
    assert shares["clip"] > 1.0
    assert shares["chain"] <= 1.0
