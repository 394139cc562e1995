"""Scripted contact and collisions that make data for the risk critic."""
