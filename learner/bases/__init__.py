"""Policies that propose actions: trained on demonstrations, then frozen."""
