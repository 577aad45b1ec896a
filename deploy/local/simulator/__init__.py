"""A stand-in for Cursor's Cloud Agents API, both versions, for demos, tests and benchmarks."""

from deploy.local.simulator.app import create_app
from deploy.local.simulator.settings import SimulatorSettings

__all__ = ["SimulatorSettings", "create_app"]
