"""What the dispatcher reads from the environment."""

from pydantic import Field, SecretStr

from shared.domain.plan import Cleanup
from shared.settings import Address, ProviderSettings


class DispatcherSettings(ProviderSettings):
    """See `ServiceSettings` for how fields become variables."""

    max_concurrent_agents: int = Field(default=3, ge=1, le=10_000)
    """Agents that run at once over the whole installation; the same for every replica."""
    app_url: Address = "http://127.0.0.1:8080"
    """Where the provider reaches the api with its webhooks (v0)."""
    webhook_secret: SecretStr = Field(min_length=32)
    create_settle_seconds: float = Field(default=300.0, gt=0)
    """How long a create without an answer may still take effect; above the 150 s that a create may take itself."""
    agent_cleanup: Cleanup = "keep"
    """What becomes of the agents of a task that has ended; stale ones count at the provider until they are archived."""
    slot_audit_seconds: float = Field(default=60.0, gt=0)
    """How often slots are looked through for holders that have ended."""
