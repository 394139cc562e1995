"""What a task's world is made of: MJCF parts, sensors of object poses, the maze's board."""
