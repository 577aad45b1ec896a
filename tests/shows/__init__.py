"""Runs of the whole system in which the provider misbehaves, and what must hold all the same."""
