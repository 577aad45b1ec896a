"""Makes the provider of the API version that the settings name."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import httpx

from shared.cursor.breaker import Breaker
from shared.cursor.http import CursorHttp, Observe, RateLimiter
from shared.cursor.provider import ApiVersion, Provider
from shared.cursor.v0 import CursorV0
from shared.cursor.v1 import CursorV1


def connect(
    version: ApiVersion,
    base_url: str,
    api_key: str,
    *,
    observe: Observe | None = None,
    limiter: RateLimiter | None = None,
    breaker: Breaker | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    rng: random.Random | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Provider:
    """The provider at `base_url` (without the version in it). Connects with the first call; `aclose` ends it.

    The arguments are those of `CursorHttp`, which also names the `ValueError`s.
    """
    http = CursorHttp(
        base_url,
        api_key,
        observe=observe,
        limiter=limiter,
        breaker=breaker,
        transport=transport,
        rng=rng,
        sleep=sleep,
    )
    return CursorV1(http) if version == "v1" else CursorV0(http)
