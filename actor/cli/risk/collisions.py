"""Data about collisions from the maze: pushes into its walls, and a clumsy way through it.

Half of it are pushes from six cells, each with a direction, a speed and a stiffness of its own;
half is the scripted solver with a heavy hand. Amounts are counted in windows, the time that one
label of the risk critic covers; what is kept is every tick, since training slides its windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from controllers.risk import NUM_FEATURES, features_of_recording
from controllers.robot import Fault, Request, Snapshot
from robot_env.host.core import HostCore
from robot_env.recorder.ring_record import memory_ring_view, newest_ticks
from robot_env.tasks.maze import Maze
from robot_env.tasks.scenes.maze_layout import Cell

WINDOW = 20  # [ticks], of one label; also how often the stiffness in effect is looked at
PLACES = 6  # [-], cells from which walls are pushed
PUSH_STEPS = (6, 16)  # [policy steps], how long one push lasts, both ends included
STIFF = 0.7  # [-], share of pushes that are stiff, as only those break the rule
PUSHES_STEPS = 20  # [policy steps], of an episode of pushes
HEAVY = (1.0, 2.5)  # [-], noise of the solver's hand; 1 is a demonstration's

Act = Callable[[Snapshot, np.ndarray], np.ndarray]


class Stretch(NamedTuple):
    """Every tick of one episode, in order."""

    features: np.ndarray  # (T, NUM_FEATURES) float32, see controllers.risk.FEATURES
    violation: np.ndarray  # (T,) bool, more force than the task allows, or a fault


def places(maze: Maze) -> list[Cell]:
    """Return six cells along the way from start to goal, evenly apart, the goal's left out."""
    way = [maze.maze.start]
    while way[-1] != maze.maze.goal:
        way.append(maze.maze.links[way[-1]])
    return [way[int(i)] for i in np.linspace(0, len(way) - 2, PLACES)]


def collide(core: HostCore, seed: int, part: int, windows: int) -> list[Stretch]:
    """Return stretches of some windows in all: half pushes, half the clumsy solver.

    Args:
        core: In lockstep, of the task `maze`.
        seed: Everything random comes from it and `part`.
        part: Number of this lot; lots don't depend on one another.
        windows: How many in all.
    """
    half = windows // 2
    pushes = _fill(lambda i: push(core, np.random.default_rng([seed, part, 0, i])), half)
    rest = windows - half
    solver = _fill(lambda i: clumsy(core, np.random.default_rng([seed, part, 1, i])), rest)
    return [*pushes, *solver]


def push(core: HostCore, rng: np.random.Generator) -> Stretch:
    """Return an episode of pushes that begins in one of the six cells."""
    task = _maze(core)
    cells = places(task)
    pushing = _Pushes(task.action_size, rng)
    return _run(core, rng, pushing.act, PUSHES_STEPS, cells[int(rng.integers(len(cells)))])


def clumsy(core: HostCore, rng: np.random.Generator) -> Stretch:
    """Return an episode of the solver with a heavy hand, from the start."""
    task = _maze(core)
    expert = task.expert(rng, float(rng.uniform(*HEAVY)))
    expert.reset()
    return _run(core, rng, expert.act, task.horizon, None)


class _Pushes:
    """One push after the other: which way, how fast, how stiff, how long."""

    def __init__(self, action_size: int, rng: np.random.Generator) -> None:
        self._size, self._rng, self._left = action_size, rng, 0

    def act(self, snapshot: Snapshot, goal_estimate: np.ndarray) -> np.ndarray:
        """Return the action (A,) of the push in progress."""
        if self._left == 0:
            angle, speed = self._rng.uniform(0.0, 2.0 * np.pi), self._rng.uniform(0.4, 1.0)
            stiffness = self._rng.uniform(-1.0, 1.0, 2)
            if self._rng.random() < STIFF:
                stiffness = self._rng.uniform(0.7, 1.0, 2)
            step = speed * np.array([np.cos(angle), np.sin(angle)])
            self._action = np.concatenate([step, stiffness])[: self._size]
            self._left = int(self._rng.integers(PUSH_STEPS[0], PUSH_STEPS[1] + 1))
        self._left -= 1
        return self._action


def _run(
    core: HostCore, rng: np.random.Generator, act: Act, steps: int, start: Cell | None
) -> Stretch:
    task = _maze(core)
    task.start = start
    try:
        snapshot, goal_estimate = core.reset(int(rng.integers(2**31)))
    finally:
        task.start = None
    stiffness = []
    ring_view = core.robot.ring_view = memory_ring_view((core.ticks + 1) * steps)
    for seq in range(snapshot.request_seq + 1, snapshot.request_seq + 1 + steps):
        request: Request | None = task.request(snapshot, act(snapshot, goal_estimate), seq)
        core.admit(request)
        for _ in range(max(1, core.ticks // WINDOW)):
            snapshot = core.period(request, WINDOW)
            request = None
            stiffness.append(np.tile(snapshot.stiffness[:3], (WINDOW, 1)))
        if task.success(snapshot.privileged_state) or snapshot.fault != Fault.NONE:
            break
    ticks = newest_ticks(ring_view, WINDOW * len(stiffness))
    return _stretch(core, ticks, np.concatenate(stiffness))


def _stretch(core: HostCore, ticks: dict[str, np.ndarray], stiffness: np.ndarray) -> Stretch:
    control = core.robot.control
    names = ("reading.q", "reading.dq", "reading.wrench", "target")
    q, dq, wrench, target = (np.ascontiguousarray(ticks[name]) for name in names)
    inputs = np.empty((len(q), NUM_FEATURES))
    features_of_recording(
        q, dq, wrench, target, stiffness, ticks["tank"].copy(),
        np.asarray(core.robot.tool), np.asarray(control.box_low), np.asarray(control.box_high),
        inputs,
    )  # fmt: skip
    hard = np.linalg.norm(wrench[:, :3], axis=1) > core.task.limits.force
    return Stretch(inputs.astype(np.float32), hard | (ticks["fault"] != Fault.NONE))


def _fill(make: Callable[[int], Stretch], windows: int) -> Iterator[Stretch]:
    held, number = 0, 0
    while held < windows:
        stretch = make(number)
        left = (windows - held) * WINDOW
        stretch = Stretch(stretch.features[:left], stretch.violation[:left])
        held, number = held + len(stretch.violation) // WINDOW, number + 1
        yield stretch


def _maze(core: HostCore) -> Maze:
    assert isinstance(core.task, Maze)  # the command has checked
    return core.task
