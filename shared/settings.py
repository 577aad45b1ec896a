"""Settings from the environment: typed, frozen, checked once at start."""

import sys
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.addresses import is_api_address, is_token
from shared.domain.retry import RetryPolicy

EXIT_MISCONFIGURED = 2


def _checked_token(secret: SecretStr) -> SecretStr:
    if not is_token(secret.get_secret_value()):
        raise ValueError("must not hold a space, a colon or a character that is not ASCII")
    return secret


def _checked_address(value: str) -> str:
    if not is_api_address(value):
        raise ValueError("must be http(s)://host[:port], without credentials")
    return value.rstrip("/")


Token = Annotated[SecretStr, AfterValidator(_checked_token)]
"""A secret that goes into a header."""
Address = Annotated[str, AfterValidator(_checked_address)]
"""Where an HTTP API is; no slash ends it."""


class NatsSettings(BaseSettings):
    """The broker, for every service and for the bootstrap, which must agree on it.

    As in all of these, each field is the environment variable of the same name in capitals.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    nats_url: str
    nats_monitor_url: str | None = None
    """Where the broker says how it syncs to disk; needed with one node, see `shared.jetstream.bootstrap`."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    events_max_bytes: int = Field(default=2 * 1024**3, gt=0)
    """Size at which the log takes nothing more."""
    ack_wait_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long the broker waits for a process that has a message before another gets it."""
    allow_weak_durability: bool = False

    @classmethod
    def load(cls) -> Self:
        """Read the environment; every missing or wrong setting is named in one message and the process exits with 2."""
        try:
            return cls()
        except ValidationError as exc:
            print(complaint(exc), file=sys.stderr)
            sys.exit(EXIT_MISCONFIGURED)


class ServiceSettings(NatsSettings):
    """What every service reads."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    environment: str = "production"
    health_host: str = "127.0.0.1"
    health_port: int | None = Field(default=8081, ge=0, le=65535)
    """Where liveness, readiness and metrics are served; 0 takes a free port, None (the api's default) serves none."""
    stop_seconds: float = Field(default=20.0, gt=0, le=25)
    """How long what is in hand may take to finish after SIGTERM; then it is left to be delivered again."""


class ProviderSettings(ServiceSettings):
    """For the services that call the provider of agents."""

    cursor_api_key: Token
    cursor_api_url: Address = "https://api.cursor.com"
    cursor_api_version: Literal["v0", "v1"] = "v1"
    cursor_breaker_seconds: float = Field(default=30.0, gt=0)
    """For how long the provider is not called after five calls in a row that it did not answer, or with a 5xx."""
    retry_backoff_seconds: float = Field(default=60.0, gt=0)
    """The first retry of a task waits this long, each further one twice as long, at most thirty times as long."""
    create_rate_per_minute: int = Field(default=10, ge=0)
    """Calls a minute over the whole installation; 0 is no limit. The same for the next two."""
    get_rate_per_minute: int = Field(default=100, ge=0)
    list_rate_per_minute: int = Field(default=20, ge=0)

    @property
    def retry_policy(self) -> RetryPolicy:
        base = timedelta(seconds=self.retry_backoff_seconds)
        return RetryPolicy(base=base, cap=base * 30)


def complaint(error: ValidationError) -> str:
    """One message that names every wrong setting; never shows a value, it may be a secret."""
    lines = [f"  {'_'.join(str(part) for part in e['loc']).upper()}: {_wrong(e)}" for e in error.errors()]
    return "wrong settings in the environment:\n" + "\n".join(lines)


def _wrong(error: ErrorDetails) -> str:
    if error["type"] == "too_short":  # only secrets have a shortest length, and those are no lists of items
        return f"must have at least {error['ctx']['min_length']} characters"
    return error["msg"].removeprefix("Value error, ")
