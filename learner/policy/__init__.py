"""The policy that acts: its weights, when they are published, how far its residual reaches."""
