"""Everything that touches the world: the control host, its clients, robots, cameras, tasks."""
