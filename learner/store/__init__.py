"""What outlives a crash: the durable store of rows, and checkpoints."""
