"""Settings of the notifier."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class NotifierSettings(ServiceSettings):
    webhook_secret: SecretStr = Field(min_length=32)
    """The key of each team's webhooks is derived from this one, see `services.notifier.signing`."""
    allow_private_webhooks: bool = False
    """Also plain http, any port and private addresses: for trials and tests, never where tenants are strangers."""
