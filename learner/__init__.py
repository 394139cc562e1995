"""Learns a policy from rows: one action operator, critics, actors, bases, and their pace."""
