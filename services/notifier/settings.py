"""Settings of the notifier."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import ServiceSettings


class SigningSettings(BaseSettings):
    """What the secret that receivers verify with follows from."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    webhook_secret: SecretStr = Field(min_length=32)


class NotifierSettings(ServiceSettings):
    database_url: SecretStr
    """Where every try is written down."""
    pool_size: int = Field(default=5, ge=1)
    webhook_secret: SecretStr = Field(min_length=32)
    """The key of each team's webhooks is derived from this one, see `services.notifier.signing`."""
    allow_private_webhooks: bool = False
    """Also plain http, any port and private addresses: for trials and tests, never where tenants are strangers."""
