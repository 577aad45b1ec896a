"""The whole system, run as its users do."""
