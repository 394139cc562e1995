"""One control-rate loop with a person beside it, and the commands that a user types."""
