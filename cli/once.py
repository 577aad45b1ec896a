"""Requests that create something: sent as often as it takes to learn what came of them, and carried out once."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from cli.client import Answer, Client, View
from cli.errors import CliError, RefusedError, UnreachableError
from cli.output import note


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to ask again, and how long to wait before that; in seconds."""

    seconds: float = 30.0
    wait: float = 1.0


async def post_once(
    client: Client,
    path: str,
    body: View | None = None,
    *,
    key: str | None = None,
    patience: Patience | None = None,
    say: Callable[[str], None] = note,
) -> Answer:
    """The answer to a POST that is carried out once, however often it has to be sent.

    It has an Idempotency-Key, `key` or one of its own, and is sent again with that while nobody knows what became of
    it: no answer came, or 202, or a server says so. The last 202 is the answer when patience is at an end.

    Raises:
        UnreachableError: nothing was sent; or it is still not known what became of it, and the error names the key.
        RefusedError: nothing was done.
    """
    return await _Once(client, path, body, key or str(uuid4()), patience or Patience(), say).post()


class _Once:
    def __init__(
        self, client: Client, path: str, body: View | None, key: str, patience: Patience, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._path = path
        self._body = body
        self._key = key
        self._patience = patience
        self._say = say
        self._deadline = time.monotonic() + patience.seconds
        self._in_doubt = False
        """Something that was sent may have been carried out."""

    async def post(self) -> Answer:
        while True:
            wait: float | None = None
            try:
                answer = await self._client.ask("POST", self._path, body=self._body, key=self._key)
                if answer.status != 202 or self._is_over:
                    return answer
                wait = answer.retry_after
            except (UnreachableError, RefusedError) as error:
                wait = self._wait_after(error)
            await asyncio.sleep(self._patience.wait if wait is None else wait)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def _wait_after(self, error: UnreachableError | RefusedError) -> float | None:
        """How long to wait before it is sent again; raises what there is to say where that is no use."""
        doubtful = _leaves_doubt(error)
        if not (doubtful or (self._in_doubt and _may_pass(error))):
            raise error
        if self._is_over:
            raise UnreachableError(_unknown(error, self._key), may_be_done=True) from error
        if not self._in_doubt:
            self._say(f"{_reason(error)}; asking again with the same Idempotency-Key, so that it happens once")
        self._in_doubt = True
        return error.retry_after if isinstance(error, RefusedError) else None


def _leaves_doubt(error: UnreachableError | RefusedError) -> bool:
    """Whether what was asked for may have been done all the same."""
    if isinstance(error, UnreachableError):
        return error.may_be_done
    # A proxy that lost the server says 502 or 504 in words of its own.
    return error.outcome == "unknown" or (error.status in (502, 504) and error.code.startswith("HTTP_"))


def _may_pass(error: UnreachableError | RefusedError) -> bool:
    return isinstance(error, UnreachableError) or error.is_passing


def _reason(error: CliError) -> str:
    return str(error).partition(";")[0]


def _unknown(error: CliError, key: str) -> str:
    return (
        f"{_reason(error)}; it is not known what became of the request. "
        f"Asking once more with --idempotency-key {key} can't do it twice"
    )
