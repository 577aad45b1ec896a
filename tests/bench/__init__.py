"""Benchmarks: `make bench`. They measure and print; no test depends on a time."""
