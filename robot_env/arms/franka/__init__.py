"""A real Franka arm through pylibfranka; `mock/` has the same interface over a simulation."""
