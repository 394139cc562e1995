"""The control-rate loop: sessions, episodes, policies that act, and what makes them run."""
