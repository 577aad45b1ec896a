"""Claims: which process of the monitor follows a stream.

The message of a watched agent wanders from process to process with every poll, so each of them would in time have a
stream of its own to each agent, and every stream counts against the limit of calls.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from shared import failpoints
from shared.jetstream.topology import claim_subject

_log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 1.0
"""Who does not answer by then stands still, and follows nothing."""


class Claims(Protocol):
    def held(self, attempt_id: str) -> AbstractAsyncContextManager[bool]:
        """Whether the attempt's stream is this process's to follow. If so, it is nobody else's inside."""


class Unshared:
    """`Claims` of a process that is alone."""

    @asynccontextmanager
    async def held(self, attempt_id: str) -> AsyncIterator[bool]:
        yield True


class BrokerClaims:
    """`Claims` as subscriptions at the broker: it answers for nobody at once, and they go when their process does.

    Two processes that ask at the same moment may both be told that it is theirs. That takes a message which both
    have, as happens when one of them stood still, and does no harm but a second stream.
    """

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    @asynccontextmanager
    async def held(self, attempt_id: str) -> AsyncIterator[bool]:
        subscription = await self._claim(claim_subject(attempt_id))
        try:
            yield subscription is not None
        finally:
            # While it is not connected the client forgets it; else it would claim again when it is, for ever.
            if subscription is not None and not (self._nc.is_closed or self._nc.is_draining):
                await self._release(subscription)

    @failpoints.around("claim_stream")
    async def _claim(self, subject: str) -> Subscription | None:
        """What keeps the claim; None where somebody else has it, or nobody can tell and the next poll asks again."""
        try:
            await self._nc.request(subject, timeout=_ANSWER_SECONDS)
        except (NoRespondersError, TimeoutError):
            # While it is not connected the client only keeps the question for later.
            return await self._nc.subscribe(subject, cb=_confirm) if self._nc.is_connected else None
        except NatsError as exc:
            _log.debug("Nobody can tell who follows a stream: %r", exc)
        return None

    @failpoints.around("release_stream")
    async def _release(self, subscription: Subscription) -> None:
        await subscription.unsubscribe()


async def _confirm(message: Msg) -> None:
    await message.respond(b"")
