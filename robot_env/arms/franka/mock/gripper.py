"""The mocked Franka Hand: the library's gripper over the simulated fingers."""

from __future__ import annotations

import time

from robot_env.arms.franka.mock.values import Duration
from robot_env.arms.franka.mock.world import World


class GripperState:
    """What the hand says."""

    def __init__(self, world: World, force: float) -> None:
        self.width, self.max_width = world.width, 0.08
        self.is_grasped = force > 0.0 and world.width > 2.0 * world.grip + 0.002
        self.temperature, self.time = 30, Duration(world.ticks)


class Gripper:
    """The hand; its commands return when the fingers have come to rest."""

    def __init__(self, world: World, address: str) -> None:
        self._world, self._force = world, 0.0

    def read_once(self) -> GripperState:
        """Return the newest state."""
        return GripperState(self._world, self._force)

    def homing(self) -> bool:
        """Open."""
        return self.move(0.08, 0.1)

    def move(self, width: float, speed: float) -> bool:
        """Bring the fingers to a width without force control."""
        self._force = 0.0
        return self._go(width, 35.0)

    def grasp(
        self,
        width: float,
        speed: float,
        force: float,
        epsilon_inner: float = 0.005,
        epsilon_outer: float = 0.005,
    ) -> bool:
        """Close with a force; return whether something of that width is held."""
        self._force = force
        self._go(0.0, force)
        return width - epsilon_inner < self._world.width < width + epsilon_outer

    def stop(self) -> bool:
        """Stay where the fingers are."""
        self._world.grip = 0.5 * self._world.width
        return True

    def _go(self, width: float, force: float) -> bool:
        world = self._world
        if world.model.nu >= 9:
            world.model.actuator_forcerange[7:9] = [[-force, force]] * 2
        world.grip = 0.5 * min(max(width, 0.0), 0.08)
        begin, before = world.ticks, -1.0
        while world.ticks - begin < 1000 and abs(world.width - before) > 1e-5:
            before, now = world.width, world.ticks
            end = time.monotonic() + 0.1
            while world.ticks < now + 50 and time.monotonic() < end:
                time.sleep(0.002)
        return True
