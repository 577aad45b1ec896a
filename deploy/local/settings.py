"""What the local stack reads from the environment: ports, the data folder, and what not to embed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.ports import LOOPBACK


class LocalSettingsError(Exception):
    """One or more settings are wrong; the message names each, a line for each."""


@dataclass(frozen=True)
class LocalSettings:
    """How to run everything on this machine. Port 0 picks a free one; all processes get `environment`."""

    data_dir: Path = Path(".data")
    api_host: str = LOOPBACK
    api_port: int = 8080
    simulator_port: int = 8090
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "LocalSettings":
        """Reads ORCHESTRATOR_DATA_DIR, API_HOST, API_PORT and SIMULATOR_PORT; an empty value counts as unset.

        Raises LocalSettingsError.
        """
        given = {name: value for name, value in environment.items() if value != ""}
        wrong: list[str] = []
        settings = cls(
            data_dir=Path(given.get("ORCHESTRATOR_DATA_DIR", cls.data_dir)),
            api_host=given.get("API_HOST", cls.api_host),
            api_port=_port("API_PORT", given, cls.api_port, wrong),
            simulator_port=_port("SIMULATOR_PORT", given, cls.simulator_port, wrong),
            environment=given,
        )
        if settings.simulates and "CURSOR_API_URL" in given:
            wrong.append("CURSOR_API_KEY: missing, though CURSOR_API_URL is set; without both, Cursor is simulated")
        if wrong:
            raise LocalSettingsError("\n".join(wrong))
        return settings

    @property
    def reachable_host(self) -> str:
        """Where a client on this machine finds the API."""
        return LOOPBACK if self.api_host in ("0.0.0.0", "::", "localhost") else self.api_host

    @property
    def simulates(self) -> bool:
        """Whether the simulator stands in for Cursor's API."""
        return "CURSOR_API_KEY" not in self.environment

    @property
    def embeds_nats(self) -> bool:
        return "NATS_URL" not in self.environment

    @property
    def embeds_postgres(self) -> bool:
        return "DATABASE_URL" not in self.environment


def _port(setting: str, given: Mapping[str, str], default: int, wrong: list[str]) -> int:
    text = given.get(setting)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    wrong.append(f"{setting}: {text!r} is not a port number from 0 to 65535")
    return default
