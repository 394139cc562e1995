"""The learner's process: sockets, progress, restore."""
