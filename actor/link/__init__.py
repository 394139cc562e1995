"""The way to the learner: over sockets, or to a trainer in the same process."""
