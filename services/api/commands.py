"""Sending a command to the dispatcher and waiting for its decision."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.errors import unavailable
from shared.command_message import CommandMessage, Reply
from shared.domain.commands import AnyCommand
from shared.domain.errors import Refusal
from shared.jetstream.errors import PublishUnavailableError
from shared.jetstream.publish import Publisher
from shared.jetstream.topology import COMMANDS, command_subject
from shared.ports import Ids

_log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 2.0
"""A broker that restarts is back by then; without a connection nothing is sent, so a refusal is certain."""

NOT_SENT: Final = "not sent"
UNKNOWN: Final = "unknown"
"""The `outcome` of a 503: this request has sent nothing, or what it has sent may still be carried out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks what of which orchestration."""

    team: str
    actor: str
    orchestration_id: str
    request_id: str
    command: AnyCommand


class CommandClient:
    """Appends commands to COMMANDS; the replies come to one inbox of this process.

    Args:
        reply_seconds: how long to wait for a decision.
    """

    def __init__(self, nc: Client, publisher: Publisher, ids: Ids, *, reply_seconds: float) -> None:
        self._nc = nc
        self._publisher = publisher
        self._ids = ids
        self._reply_seconds = reply_seconds
        self._inbox = nc.new_inbox()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Replies are heard inside."""
        subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._on_reply)
        try:
            yield
        finally:
            if self._nc.is_connected:
                await subscription.unsubscribe()

    async def send(self, asked: Asked, *, command_id: str | None = None) -> Reply | None:
        """The decision; None if there is none in time: it is still to come.

        Args:
            command_id: makes repeating the command harmless; None takes a new one.

        Raises:
            Refusal: the state does not allow it; nothing has changed.
            ApiError: 503, the broker is away. `metadata.outcome` says whether the command may be stored.
            PayloadTooLargeError: nothing was sent.
        """
        await self._wait_connected()
        token = self._ids.new()  # not the command's id: several may send the same command at once
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[token] = reply
        try:
            await self._append(command_id or token, asked, token)
            async with asyncio.timeout(self._reply_seconds):
                decided = await reply
            return _decision(decided)
        except TimeoutError:
            _log.warning("No decision in time", extra={"orchestration": asked.orchestration_id})
            return None
        finally:
            del self._waiting[token]

    async def _append(self, command_id: str, asked: Asked, token: str) -> None:
        message = CommandMessage(
            command_id=command_id,
            correlation_id=asked.request_id,
            actor=asked.actor,
            team=asked.team,
            orchestration_id=asked.orchestration_id,
            command=asked.command,
            reply_to=f"{self._inbox}.{token}",
        )
        subject = command_subject(asked.team, asked.orchestration_id)
        try:
            # Under the token, not the command's id: the command sent again must reach the dispatcher to be answered.
            await self._publisher.publish(subject, message.encode(), stream=COMMANDS, msg_id=token)
        except PublishUnavailableError as exc:
            raise unavailable(
                "the message broker did not confirm the command; it may still be carried out",
                outcome=UNKNOWN,
                orchestrationId=asked.orchestration_id,
            ) from exc

    async def _wait_connected(self) -> None:
        deadline = asyncio.get_running_loop().time() + _CONNECT_SECONDS
        while not self._nc.is_connected:
            if asyncio.get_running_loop().time() > deadline:
                raise unavailable("the message broker does not answer; this request has sent nothing", outcome=NOT_SENT)
            await asyncio.sleep(0.05)

    async def _on_reply(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rsplit(".", 1)[1])
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(Reply.decode(message.data))
        except (ValueError, TypeError) as exc:
            _log.error("A reply cannot be read: %r", exc)


def _decision(reply: Reply) -> Reply:
    if reply.error_code is not None:
        raise Refusal(reply.error_code, reply.error_message or "refused", reply.error_metadata)
    return reply
