"""What a task file may say about the task: table `[task]`."""

from __future__ import annotations

from dataclasses import dataclass

from handrail.config import check
from robot_env.tasks.scenes.maze_layout import LAYOUTS

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class TaskConfig:
    """Geometry, ranges and rates of a task; None stands for the task's own default.

    Every range is the half width of a uniform distribution, per axis of the base frame. `resolve`
    of `robot_env.tasks` fills in the defaults; the digest of the result is the task's hash.
    """

    name: str = "peg"  # reach, peg, pick, assemble, maze, a registered one, gym:ID, metaworld:TASK
    control_hz: float | None = None  # [Hz], policy steps per second; arm: 10, gymnasium: its own
    horizon: int | None = None  # [steps], the episode is truncated here
    action_scale: float | None = None  # [m], travel of the target per step at action 1
    start_range: Vector | None = None  # [m], where the tool starts, about the task's start
    goal_range: Vector | None = None  # [m], where the goal is put; the policy knows the place
    hidden_error: Vector | None = None  # [m], true minus nominal goal; nobody tells the policy
    object_range: Vector | None = None  # [m], where the loose object is put
    object_yaw: float | None = None  # [rad], rotation of the loose object about the vertical
    object_noise: float | None = None  # [m], standard deviation of its observed position
    clearance: float | None = None  # [m] per side between peg and hole
    friction: float | None = None  # [-], Coulomb friction of the parts in contact
    tolerance: float | None = None  # [m], distance to the goal that counts as reached
    depth: float | None = None  # [m], insertion or lift that counts as success
    layout: int | None = None  # which maze: 1 to train on, 2 its mirror, 3 a zig-zag, both held out
    stiffness_action: bool | None = None  # the last two action dimensions set the spring across
    wall_stiffness: float | None = None  # [N/m], of contact with the maze's walls
    force_limit: float | None = None  # [N], a step in which the tool meets more is a violation
    energy_budget: float | None = None  # [J], injected in an episode; more is a violation
    images: bool = False  # render the cameras at every step
    image_size: int = 128  # [px], height and width of each image

    def __post_init__(self) -> None:
        if self.control_hz is not None:
            check(1.0 <= self.control_hz <= 100.0, "control_hz", self.control_hz, "in 1..100 Hz")
        check(16 <= self.image_size <= 1024, "image_size", self.image_size, "in 16..1024 px")
        if self.horizon is not None:
            check(self.horizon > 0, "horizon", self.horizon, "positive")
        if self.action_scale is not None:
            check(
                0.0 < self.action_scale <= 0.05, "action_scale", self.action_scale, "in (0, 0.05] m"
            )
        for name in ("start_range", "goal_range", "hidden_error", "object_range"):
            value = getattr(self, name)
            if value is not None:
                rule = "half widths in 0..0.3 m"
                check(all(0.0 <= v <= 0.3 for v in value), name, value, rule)
        for name in ("object_yaw", "object_noise", "clearance", "friction", "tolerance", "depth"):
            value = getattr(self, name)
            if value is not None:
                check(value >= 0.0, name, value, "zero or more")
        if self.layout is not None:
            check(self.layout in LAYOUTS, "layout", self.layout, f"one of {LAYOUTS}")
        if self.wall_stiffness is not None:
            rule = "in 1e3..1e6 N/m"
            check(1e3 <= self.wall_stiffness <= 1e6, "wall_stiffness", self.wall_stiffness, rule)
        for name in ("force_limit", "energy_budget"):
            value = getattr(self, name)
            if value is not None:
                check(value > 0.0, name, value, "positive")
