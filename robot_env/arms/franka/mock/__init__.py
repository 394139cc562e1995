"""A mock of pylibfranka over simulated physics: `--mock`."""
