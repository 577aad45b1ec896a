"""Settings of the simulator, read from `SIMULATOR_*` in the environment."""

from collections.abc import Iterable
from typing import Annotated

import orjson
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import Switch, read_switches
from deploy.local.simulator.schemas import RepositoryUrl

_PREFIX = "SIMULATOR_"


class SimulatorSettings(BaseSettings):
    """How the simulated provider behaves when a prompt asks for nothing special. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535, description="0 takes any free port")
    api_key: SecretStr | None = Field(default=None, description="unset: every non-empty key is accepted")
    seed: int = Field(default=0, description="of all content that is made up")

    # Of the simulator's clock: 60 lets a minute pass in a second.
    speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    # A demo should be watchable and yet over soon; real runs take 7 s to 7 h.
    duration_seconds: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    # The real v1 blocks 10-60 s here while the machine boots.
    create_seconds: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    # A cancel is taken at once and takes effect later, 1-3 s on the real API.
    cancel_seconds: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    # How long a further prompt blocks; it has taken effect from the first moment, answered or not.
    follow_up_seconds: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    # How long v0 goes on to show the end of the run before, once a further prompt has started an agent again.
    follow_up_lag_seconds: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    heartbeat_seconds: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    # Wait before the second try of a webhook, doubled for every further one.
    webhook_backoff_seconds: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    # How long a stream can be read after its run has ended; the real time is not published.
    stream_retention_seconds: float = Field(default=86_400.0, ge=0, allow_inf_nan=False)
    # 0 is no limit. Those of the list of repositories are the only ones that are published.
    create_per_minute: int = Field(default=0, ge=0)
    get_per_minute: int = Field(default=0, ge=0)
    list_per_minute: int = Field(default=0, ge=0)
    repositories_per_minute: int = Field(default=1, ge=0)
    repositories_per_hour: int = Field(default=30, ge=0)
    concurrent_agents: int = Field(default=0, ge=0, description="agents that are neither archived nor deleted")
    repositories: Annotated[tuple[RepositoryUrl, ...], NoDecode] = (
        "https://github.com/acme/shop",
        "https://github.com/acme/widgets",
    )
    faults: Annotated[dict[str, object], NoDecode] = Field(
        default_factory=dict, description="those on from the start, as JSON"
    )

    @field_validator("repositories", "faults", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        """As every other bad value: named, instead of a failure of the reading itself."""
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("is not valid JSON") from None

    @field_validator("faults")
    @classmethod
    def _known(cls, faults: dict[str, object]) -> dict[str, object]:
        try:
            read_switches(faults)
        except ApiError as error:
            raise ValueError(error.message) from None
        return faults

    @classmethod
    def unknown(cls, environment: Iterable[str]) -> list[str]:
        """The variables that look like settings and are none: a misspelt one would else do nothing and say nothing."""
        known = {f"{_PREFIX}{name.upper()}" for name in cls.model_fields}
        return sorted(name for name in environment if name.upper().startswith(_PREFIX) and name.upper() not in known)

    def switches(self) -> dict[str, Switch | None]:
        return read_switches(self.faults)
