"""How a process of a run begins, stops and says why it ended."""
