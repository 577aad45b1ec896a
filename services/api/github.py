"""Asks GitHub whether a repository, and a ref in it, are there for whoever holds the token."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote, urljoin, urlsplit

import httpx

from services.api.errors import ApiError
from shared.addresses import is_loopback, is_token
from shared.cursor.refusals import RETRY_AFTER_LIMIT
from shared.cursor.transport import ACCEPTED_ENCODING, TRANSPORT_ERRORS, checked_address, no_cookies, read_bounded
from shared.retry_after import retry_after

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 10.0
"""For one repository, all calls together: somebody waits for the answer to a request."""
_CALL_SECONDS: Final = 5.0
_AT_ONCE: Final = 10
_MOVES: Final = 3
_WAY_OUT: Final = (
    "check how it is spelled, that GITHUB_TOKEN may read it, "
    "and that Cursor's GitHub App is installed with access to it"
)
_OBJECT: Final = "application/vnd.github+json"
_SHA: Final = "application/vnd.github.sha"
"""Of a commit nothing but its name: a large one would be megabytes."""


@dataclass(frozen=True, slots=True)
class Amiss:
    """Why no agent could work there. `what` names the part of the request that is wrong."""

    what: Literal["repository", "ref"]
    message: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class GitHub:
    """GitHub's REST API with one token, which is in no error and in no log.

    Args:
        base_url: `https://api.github.com`, or of a GitHub Enterprise.

    Raises:
        ValueError: token or address cannot be used.
    """

    def __init__(self, token: str, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not is_token(token):
            raise ValueError("GITHUB_TOKEN is empty or holds a space, a colon or a non-ASCII character")
        self._base = checked_address(base_url, "GitHub's")
        self._client = httpx.AsyncClient(
            headers={
                "Accept-Encoding": ACCEPTED_ENCODING,
                "Authorization": f"Bearer {token}",
                "User-Agent": "cursor-orchestrator",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            cookies=no_cookies(),
            timeout=_CALL_SECONDS,
            transport=transport,
            trust_env=not is_loopback(base_url),
        )
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def look(self, repository: str, ref: str) -> Amiss | None:
        """What is amiss with a repository, given as `https://github.com/owner/name`, and a ref in it; None if nothing.

        Raises:
            ApiError: 502 `GITHUB_API_ERROR`, GitHub did not say; with `Retry-After` where it is known.
        """
        name = urlsplit(repository).path.strip("/")
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._slots:
                return await self._repository(name) or await self._ref(name, ref)
        except (TimeoutError, httpx.TimeoutException) as exc:
            _log.warning("GitHub did not answer in time: %s", type(exc).__name__)
            raise unanswered("did not answer in time") from None
        except TRANSPORT_ERRORS as exc:
            # Its class alone: some of these quote the headers that were sent.
            _log.warning("GitHub could not be asked: %s", type(exc).__name__)
            raise unanswered("could not be reached") from None

    async def _repository(self, name: str) -> Amiss | None:
        answer = await self._get(f"/repos/{quote(name)}", _OBJECT)
        if answer.status in (403, 404, 451):
            return Amiss("repository", f"GitHub shows no {name}: {_WAY_OUT}")
        found = _object(_expected(answer, 200))
        if found.get("archived") is True or found.get("disabled") is True:
            return Amiss("repository", f"{name} is archived on GitHub, so that nothing can be pushed to it")
        return None

    async def _ref(self, name: str, ref: str) -> Amiss | None:
        answer = await self._get(f"/repos/{quote(name)}/commits/{quote(ref)}", _SHA)
        if answer.status == 409:
            return Amiss("repository", f"{name} is empty on GitHub: push a first commit to it")
        if answer.status in (403, 404, 422):
            return Amiss("ref", f"GitHub shows no branch, tag or commit {ref!r} in {name}: check how it is spelled")
        _expected(answer, 200)
        return None

    async def _get(self, path: str, accept: str) -> _Answer:
        """What GitHub says at `path`; a repository that has moved is looked at where it is now."""
        url = f"{self._base}{path}"
        for _ in range(_MOVES):
            async with self._client.stream("GET", url, headers={"Accept": accept}) as response:
                body, _ = await read_bounded(response)
            answer = _Answer(response.status_code, response.headers, body)
            if answer.status == 401:
                _log.error("GitHub does not take the token of GITHUB_TOKEN")
                raise unanswered("does not take the token of this installation (GITHUB_TOKEN)")
            if (wait := _throttled(answer)) is not None:
                raise unanswered("takes no more calls for now", wait)
            if not response.is_redirect:
                return answer
            url = urljoin(url, response.headers.get("location", ""))
            if not _same_origin(url, self._base):
                break
        raise unanswered("sends us elsewhere")


def _expected(answer: _Answer, status: int) -> _Answer:
    if answer.status != status:
        _log.warning("GitHub answered %d", answer.status)
        raise unanswered("does not answer as it should", _asked_to_wait(answer))
    return answer


def _object(answer: _Answer) -> dict[str, object]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unanswered("does not answer as it should")
    return found


def _throttled(answer: _Answer) -> float | None:
    """Seconds to wait if it was asked too often, else None. A 403 is that only where it says so."""
    spent = answer.headers.get("x-ratelimit-remaining") == "0"
    asked = _asked_to_wait(answer)
    if answer.status != 429 and not (answer.status == 403 and (spent or asked is not None)):
        return None
    return asked if asked is not None else _until(answer.headers.get("x-ratelimit-reset"))


def _asked_to_wait(answer: _Answer) -> float | None:
    return retry_after(answer.headers.get("retry-after"), datetime.now(UTC), most=RETRY_AFTER_LIMIT)


def _until(reset: str | None) -> float:
    """Seconds until a Unix time, a minute where there is none to be told."""
    try:
        seconds = float(reset or "") - time.time()
    except ValueError:
        return 60.0
    return min(max(seconds, 1.0), RETRY_AFTER_LIMIT) if math.isfinite(seconds) else 60.0


def _same_origin(url: str, base: str) -> bool:
    """Whether the token may go there."""
    one, other = urlsplit(url), urlsplit(base)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def unanswered(what: str, wait: float | None = None) -> ApiError:
    """The error for a question that GitHub left open; `wait` in seconds where it is known."""
    headers = {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}
    message = f"GitHub {what}; nothing was created. Try again, or leave out checkRepository"
    return ApiError("GITHUB_API_ERROR", message, headers=headers)
