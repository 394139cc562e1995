"""Arms behind the `controllers.robot.Robot` Protocol; vendor imports live in each driver's file."""

import os
import sys

if sys.platform.startswith("linux"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # headless; mujoco reads it when it is imported
