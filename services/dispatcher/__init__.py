"""Decides, reconciles, launches agents."""
