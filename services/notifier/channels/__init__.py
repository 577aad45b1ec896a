"""The ways in which a receiver is told: one module each."""
