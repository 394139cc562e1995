"""Scripted policies that demonstrate a task."""
