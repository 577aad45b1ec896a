"""What the api reads from the environment."""

from typing import Final

from pydantic import Field, SecretStr

from shared.settings import Address, ProviderSettings, Token
from shared.webhooks import WebhookKeys

TEAM_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"


class ApiSettings(ProviderSettings):
    """See `ServiceSettings` for how fields become variables."""

    database_url: SecretStr
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    health_port: int | None = None  # liveness, readiness and metrics are on the port of the API itself
    orchestrator_api_key: SecretStr | None = Field(default=None, min_length=16)
    """The operator's key. Where none is given and none was ever made, one is made and shown on stdout, once."""
    team: str = Field(default="default", pattern=TEAM_PATTERN)
    """Whose orchestrations the key sees and makes."""
    requests_per_minute: int = Field(default=600, ge=0)
    """How many requests each key may make, over all replicas; 0 is no limit."""
    failed_attempts_per_minute: int = Field(default=20, ge=0)
    """How many keys that are not valid an address may show to one replica; 0 is no limit."""
    webhook_secret: SecretStr = Field(min_length=32)
    webhook_secret_previous: SecretStr | None = Field(default=None, min_length=32)
    """Set it to the old secret when changing WEBHOOK_SECRET, for as long as agents created before may live."""
    webhooks_per_minute: int = Field(default=60, ge=0)
    """How many webhooks that are refused an address may send to one replica, see `WebhookLimits`; 0 is no limit."""
    webhook_burst: int = Field(default=20, ge=1)
    """How many of them at once."""
    github_token: Token | None = None
    """With it, `checkRepository` is answered by GitHub; it needs to read the contents of repositories, no more."""
    github_api_url: Address = "https://api.github.com"
    allow_private_webhooks: bool = False
    run_projector: bool = True
    """False where `python -m services.api.projector` runs on its own."""
    pool_size: int = Field(default=10, ge=1, le=200)
    publish_seconds: float = Field(default=4.0, gt=0)
    """How long the broker may take to store a command or receipt; the provider waits for us, so below 5."""
    reply_seconds: float = Field(default=5.0, gt=0)
    """How long a request waits for the decision on its command; then it is answered 202."""
    visible_seconds: float = Field(default=2.0, gt=0)
    """How long it then waits for the rows; then it is answered from the log."""
    models_seconds: float = Field(default=2.0, ge=0)
    """How long the first request that names a model waits for the provider's list; those known by name serve then."""
    heartbeat_seconds: float = Field(default=10.0, gt=0, le=10)
    """Between two signs of life on a stream."""
    idle_after_end_seconds: float = Field(default=30.0, gt=0)
    """A stream on which nothing comes for so long after the orchestration's end is closed."""
    check_key_seconds: float = Field(default=8.0, gt=0, le=8)
    """Between two looks at the key of an open stream. What a look shows may be 20 s old; it is to be out within 30."""
    stream_send_seconds: float = Field(default=30.0, gt=0)
    """A client that takes nothing of its stream for so long is gone, whatever its connection says."""
    max_streams: int = Field(default=4000, ge=1)
    """How many clients may follow orchestrations live at one replica at once; one more is answered 503."""
    max_streams_per_team: int = Field(default=2000, ge=1)
    """How many of them may be of one team; one more is answered 429."""

    @property
    def webhook_keys(self) -> WebhookKeys:
        previous = self.webhook_secret_previous
        secrets = [self.webhook_secret, *([previous] if previous else [])]
        return WebhookKeys([secret.get_secret_value() for secret in secrets])
