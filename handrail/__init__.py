"""Handrail: what the robot host and the learner host share."""

__version__ = "0.1.0"
