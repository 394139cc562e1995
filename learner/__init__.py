"""Learns a policy from rows: one action composer, critics, actors, bases, and their pace."""
