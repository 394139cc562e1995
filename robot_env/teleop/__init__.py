"""Whoever may take over from the policy; each device has a file of its own."""
