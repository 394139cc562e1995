"""The maze on paper: cells, corridors, walls, and the way along the corridors' middle.

Everything is in the board's frame: origin at its corner nearest to the arm's right, axes parallel
to the base's. A corridor is a chain of cells; two neighbours that no link joins have a wall between
them. Links point toward the goal's cell, so that the way to go is unique from anywhere.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from handrail.config import check

CELLS = 6  # [-], cells along each side of the board
PITCH = 0.050  # [m], of the cells
WALL = 0.010  # [m], thickness of a wall; a corridor is PITCH - WALL wide

Cell = tuple[int, int]  # along x, along y, from 0
Rectangle = tuple[float, float, float, float]  # low x, low y, high x, high y [m]

# corners of each chain of cells; the first chain is the way from start to goal, others are dead
# ends that leave it, written toward it
_LAYOUTS: dict[int, tuple[tuple[Cell, ...], ...]] = {
    1: (((0, 0), (0, 4), (2, 4), (2, 1), (5, 1), (5, 5)),),  # S: three corridors, two turns back
    2: (((0, 5), (0, 1), (2, 1), (2, 4), (5, 4), (5, 0)),),  # its mirror image
    3: (  # zig-zag, and straight on where it turns back there is a dead end
        ((0, 0), (3, 0), (3, 2), (1, 2), (1, 4), (5, 4), (5, 5)),
        ((5, 2), (3, 2)),
    ),
}
LAYOUTS = tuple(_LAYOUTS)


class Corridors(NamedTuple):
    """One layout."""

    start: Cell
    goal: Cell
    links: dict[Cell, Cell]  # from each cell but the goal's to the next one toward it

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of corridors, the goal's last."""
        return (*self.links, self.goal)


class PathPosition(NamedTuple):
    """Where a point is along the corridors."""

    point: np.ndarray  # (2,), nearest on the corridors' middle [m]
    following: Cell  # the way goes on to this cell's middle
    to_go: float  # [m], from `point` to the goal


def corridors(layout: int) -> Corridors:
    """Return a layout's corridors.

    Raises:
        ConfigError: There is no such layout.
    """
    check(layout in _LAYOUTS, "layout", layout, f"one of {', '.join(map(str, LAYOUTS))}")
    links: dict[Cell, Cell] = {}
    for corners in _LAYOUTS[layout]:
        chain = _chain(corners)
        links |= {a: b for a, b in pairwise(chain) if a not in links}
    way = _LAYOUTS[layout][0]
    return Corridors(way[0], way[-1], links)


def middle(cell: Cell) -> np.ndarray:
    """Return the middle of a cell (2,) [m]."""
    return PITCH * (np.asarray(cell, float) + 0.5)


def cell_at(maze: Corridors, point: np.ndarray) -> Cell:
    """Return the corridor's cell that a point (2,) [m] is in, or the nearest one."""
    x, y = (point / PITCH).astype(int)
    if (x, y) in maze.links or (x, y) == maze.goal:
        return int(x), int(y)
    return min(maze.cells, key=lambda cell: float(np.abs(middle(cell) - point).max()))


def locate_on_path(maze: Corridors, point: np.ndarray, goal: np.ndarray) -> PathPosition:
    """Return where a point is along the corridors' middle.

    Args:
        maze: The corridors.
        point: Shape (2,) [m].
        goal: In the goal's cell, shape (2,) [m]; the way ends there.
    """
    cell = cell_at(maze, point)
    best, nearest = None, np.inf
    for a, b in maze.links.items():
        if cell not in (a, b):
            continue
        end = _node(maze, b, goal)
        along = _onto(point, _node(maze, a, goal), end)
        off = float(np.linalg.norm(point - along))
        if off < nearest:
            nearest = off
            best = PathPosition(
                along, b, float(np.linalg.norm(along - end)) + path_length(maze, b, goal)
            )
    assert best is not None  # every cell has a link
    return best


def path_length(maze: Corridors, cell: Cell, goal: np.ndarray) -> float:
    """Return the way from a cell's middle to the goal (2,) along the corridors' middle [m]."""
    total, here = 0.0, _node(maze, cell, goal)
    while cell != maze.goal:
        cell = maze.links[cell]
        there = _node(maze, cell, goal)
        total, here = total + float(np.linalg.norm(there - here)), there
    return total


def point_ahead(
    maze: Corridors, point: np.ndarray, goal: np.ndarray, distance: float
) -> np.ndarray:
    """Return the place on the corridors' middle some way ahead of a point (2,) [m].

    Args:
        maze: The corridors.
        point: Shape (2,) [m].
        goal: See `locate_on_path`.
        distance: How far ahead [m]; the goal is as far as it goes.
    """
    here, cell, _ = locate_on_path(maze, point, goal)
    while True:
        there = _node(maze, cell, goal)
        left = float(np.linalg.norm(there - here))
        if left >= distance:
            return here + (there - here) * (distance / left)
        if cell == maze.goal:
            return there
        here, cell, distance = there, maze.links[cell], distance - left


def walls(maze: Corridors) -> list[Rectangle]:
    """Return the walls, each as long as it goes straight; their ends overlap at corners."""
    edges: set[tuple[int, int, int]] = set()  # along which axis, at which line, from which cell
    for x, y in maze.cells:
        for axis, line, at, other in (
            (1, x, y, (x - 1, y)),
            (1, x + 1, y, (x + 1, y)),
            (0, y, x, (x, y - 1)),
            (0, y + 1, x, (x, y + 1)),
        ):
            if not _linked(maze, (x, y), other):
                edges.add((axis, line, at))
    made = []
    for axis, line, at in sorted(edges):
        if (axis, line, at - 1) in edges:
            continue
        end = at + 1
        while (axis, line, end) in edges:
            end += 1
        across, low, high = line * PITCH, at * PITCH - WALL / 2, end * PITCH + WALL / 2
        low_high = (across - WALL / 2, low, across + WALL / 2, high)
        made.append(low_high if axis == 1 else tuple(low_high[i] for i in (1, 0, 3, 2)))
    return made


def _chain(corners: tuple[Cell, ...]) -> list[Cell]:
    cells = [corners[0]]
    for x, y in corners[1:]:
        while cells[-1] != (x, y):
            a, b = cells[-1]
            cells.append((a + int(np.sign(x - a)), b + int(np.sign(y - b))))
    return cells


def _linked(maze: Corridors, a: Cell, b: Cell) -> bool:
    return maze.links.get(a) == b or maze.links.get(b) == a


def _node(maze: Corridors, cell: Cell, goal: np.ndarray) -> np.ndarray:
    return goal if cell == maze.goal else middle(cell)


def _onto(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    span = b - a
    share = float((point - a) @ span) / max(float(span @ span), 1e-12)
    return a + min(max(share, 0.0), 1.0) * span
