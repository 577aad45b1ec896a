"""The sweep over the failpoints: services are killed at each of them, many times, and what was promised must hold."""
