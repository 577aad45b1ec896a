"""The API: commands in, reads and live updates out, and the projector that keeps the read side."""
