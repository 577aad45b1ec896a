"""Questions to the provider of the agents: bounded in time, and what goes wrong in the API's own words."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.api.errors import ApiError
from shared.cursor.errors import ProviderError
from shared.cursor.refusals import (
    AGENT_NOT_FOUND,
    ARTIFACT_NOT_FOUND,
    FEATURE_UNAVAILABLE,
    PROVIDER_UNAVAILABLE,
    RATE_LIMIT_EXCEEDED,
    RUN_NOT_FOUND,
)

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 20.0
"""The client tries a read several times; nobody waits for all of them at an HTTP request."""
_RETRY_SECONDS: Final = 5
_LATER: Final = {
    RATE_LIMIT_EXCEEDED: "the limit of calls to the provider of the agents is used up",
    PROVIDER_UNAVAILABLE: "the provider of the agents does not answer, and is not asked for a while",
}


@asynccontextmanager
async def asking_provider() -> AsyncIterator[None]:
    """For calls to the provider inside.

    Raises:
        ApiError: 404 the provider has no such agent, 503 it is to be asked later, 502 it did not or could not answer.
    """
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield
    except ProviderError as error:
        raise translated(error) from error
    except TimeoutError as error:
        raise ApiError("CURSOR_API_ERROR", "the provider of the agents did not answer in time") from error


def translated(error: ProviderError) -> ApiError:
    """What a caller may know of it: neither addresses, nor what the provider wrote, nor anything of our key."""
    if error.code in (AGENT_NOT_FOUND, RUN_NOT_FOUND):
        return ApiError("AGENT_NOT_FOUND", "the provider has no such agent, or has none any more")
    if error.code == ARTIFACT_NOT_FOUND:
        return ApiError("NOT_FOUND", "the agent has left no such file, or it is there no longer")
    if error.code in _LATER:
        seconds = math.ceil(error.retry_after or _RETRY_SECONDS)
        message = f"{_LATER[error.code]}; try again later"
        return ApiError("SERVICE_UNAVAILABLE", message, headers={"Retry-After": str(max(1, seconds))})
    _log.warning("The provider could not be asked: %s", error, extra={"code": error.code})
    if error.code == FEATURE_UNAVAILABLE:
        return ApiError("CURSOR_API_ERROR", "the provider of the agents does not tell this of the agent")
    if error.status is None or error.status >= 500:
        return ApiError("CURSOR_API_ERROR", "the provider of the agents does not answer, or not as it should")
    return ApiError("CURSOR_API_ERROR", "the provider of the agents refused to answer")
