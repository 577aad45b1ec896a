"""Makes the provider client of a service: its settings, the shared rate limit, a breaker, and metrics of every call."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client

from shared.cursor.breaker import Breaker
from shared.cursor.factory import connect
from shared.cursor.provider import Provider
from shared.jetstream.kv import JetStreamKeyValue
from shared.jetstream.topology import LIMITS
from shared.observability.metrics import PROVIDER_BREAKER_OPEN, observe_provider_call
from shared.ports import Clock
from shared.rate_limit import Rate, SharedRateLimiter
from shared.settings import ProviderSettings

_REPOSITORIES = Rate(0.5)
"""The provider's own limit, which it publishes: once a minute, and thirty times an hour."""


def rates(settings: ProviderSettings) -> dict[str, Rate]:
    """What the limit allows of each kind of call."""
    return {
        "create": Rate(settings.create_rate_per_minute),
        "get": Rate(settings.get_rate_per_minute),
        "list": Rate(settings.list_rate_per_minute),
        "repositories": _REPOSITORIES,
        # Opening a stream is a get as well: streams that break must leave the greater part to the polls.
        "stream": Rate(math.ceil(settings.get_rate_per_minute / 4)),
    }


def make_limiter(settings: ProviderSettings, nc: Client, clock: Clock) -> SharedRateLimiter:
    """The limit of calls that all processes share."""
    return SharedRateLimiter(JetStreamKeyValue(nc, LIMITS, budget=5.0), clock, rates(settings))


def make_breaker(settings: ProviderSettings) -> Breaker:
    """One for all calls of the process."""
    return Breaker(settings.cursor_breaker_seconds)


@asynccontextmanager
async def open_provider(
    settings: ProviderSettings,
    nc: Client,
    clock: Clock,
    limiter: SharedRateLimiter | None = None,
    breaker: Breaker | None = None,
) -> AsyncIterator[Provider]:
    """The provider that the settings name, within `limiter` and behind `breaker`, or those of its own; it is closed on
    leaving."""
    breaker = breaker or make_breaker(settings)
    PROVIDER_BREAKER_OPEN.set_function(lambda: breaker.is_open)
    provider = connect(
        settings.cursor_api_version,
        settings.cursor_api_url,
        settings.cursor_api_key.get_secret_value(),
        observe=observe_provider_call,
        limiter=limiter or make_limiter(settings, nc, clock),
        breaker=breaker,
    )
    try:
        yield provider
    finally:
        await provider.aclose()
