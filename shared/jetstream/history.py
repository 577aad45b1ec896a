"""Reading the messages of one subject by batched direct get, for which the client library has no call."""

import asyncio
import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError

from shared.jetstream.errors import UnreadableHistoryError
from shared.jetstream.retry import Backoff

_BATCH: Final = 512
_TRY: Final = 5.0


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A stored message as it is. `message_id` is what it was published with; `headers` are told by `read` alone."""

    sequence: int
    subject: str
    message_id: str | None
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class _Incomplete(Exception):
    """An answer of which a part is missing, or one by a replica that lags behind: ask again."""


class HistoryReader:
    """Reads from one stream. Answers come from any replica, which may be a little behind the leader."""

    def __init__(self, nc: Client, stream: str) -> None:
        self._nc = nc
        self._direct = f"$JS.API.DIRECT.GET.{stream}"
        self._leader = f"$JS.API.STREAM.MSG.GET.{stream}"
        self._calls: dict[str, _Call] = {}
        self._numbers = itertools.count()
        self._inbox: str | None = None
        self._starting = asyncio.Lock()

    async def read(self, subject: str, *, after: int, budget: float, limit: int | None = None) -> list[RawMessage]:
        """Every message of `subject` above the sequence `after`, oldest first; at most `limit` where it is given.

        Raises:
            UnreadableHistoryError: the broker refuses.
            TimeoutError: no complete answer within `budget` seconds.
        """
        backoff = Backoff(first=0.02, most=1.0, budget=budget)
        found: list[RawMessage] = []
        pending = 0
        last: Exception | None = None
        while backoff.remaining > 0:
            try:
                start = (found[-1].sequence if found else after) + 1
                batch = _BATCH if limit is None else min(_BATCH, limit - len(found))
                page, pending = await self._page(subject, start, batch, pending, min(_TRY, backoff.remaining))
                found += page
                if pending == 0 or len(found) == limit:
                    return found
                backoff.reset()
                continue
            except ConnectionClosedError as exc:
                raise TimeoutError("the connection to the broker is closed") from exc
            except (NatsError, TimeoutError, _Incomplete) as exc:
                last = exc
            await backoff.wait()
        raise TimeoutError(f"no complete answer for {subject}: {last!r}") from last

    async def first_after(self, subject: str, after: int) -> RawMessage | None:
        """The oldest message of `subject` above `after`, asked of the leader, so it is never behind."""
        return await self._get({"seq": after + 1, "next_by_subj": subject})

    async def newest(self, subject: str) -> RawMessage | None:
        """The newest message of `subject`, asked of the leader."""
        return await self._get({"last_by_subj": subject})

    async def at(self, sequence: int) -> RawMessage | None:
        """The message with this sequence, asked of the leader."""
        return await self._get({"seq": sequence})

    async def _get(self, query: dict[str, int | str]) -> RawMessage | None:
        reply = await self._nc.request(self._leader, orjson.dumps(query), timeout=_TRY)
        answer = orjson.loads(reply.data)
        error = answer.get("error")
        if error is not None:
            if error["code"] == 404:
                return None
            if error["code"] >= 500:
                raise NatsError(error.get("description", ""))
            raise UnreadableHistoryError(error.get("description", ""))
        return _stored(answer["message"])

    async def _page(
        self, subject: str, start: int, batch: int, promised: int, within: float
    ) -> tuple[list[RawMessage], int]:
        """One answer and how many messages are still to come; `promised` is what the one before said."""
        messages, end = await self._ask({"batch": batch, "seq": start, "next_by_subj": subject}, within)
        status = end["Status"]
        if status == "404":
            if promised:
                raise _Incomplete("a replica lags behind")
            return [], 0
        if status != "204":
            raise UnreadableHistoryError(f"{status} {end.get('Description', '')}")
        page = [_direct(message) for message in messages]
        if not page or page[-1].sequence != int(end["Nats-Last-Sequence"]):
            raise _Incomplete("a part of the answer is missing")
        return page, int(end.get("Nats-Num-Pending", 0))

    async def _ask(self, query: dict[str, int | str], within: float) -> tuple[list[Msg], dict[str, str]]:
        inbox = self._inbox or await self._start()
        key = str(next(self._numbers))
        call = self._calls[key] = _Call()
        try:
            await self._nc.publish(self._direct, orjson.dumps(query), reply=f"{inbox}.{key}")
            async with asyncio.timeout(within):
                end = await call.end
            return call.messages, end
        finally:
            del self._calls[key]

    async def _start(self) -> str:
        async with self._starting:
            if self._inbox is None:
                inbox = self._nc.new_inbox()
                await self._nc.subscribe(f"{inbox}.*", cb=self._on_reply, pending_msgs_limit=-1, pending_bytes_limit=-1)
                self._inbox = inbox
            return self._inbox

    async def _on_reply(self, message: Msg) -> None:
        call = self._calls.get(message.subject.rsplit(".", 1)[1])
        if call is None:
            return
        headers = message.headers or {}
        if "Status" not in headers:
            call.messages.append(message)
        elif not call.end.done():
            call.end.set_result(headers)


class _Call:
    """What has come of one answer: its messages, and its end."""

    __slots__ = ("end", "messages")

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.end: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()


def _direct(message: Msg) -> RawMessage:
    headers = message.headers or {}
    message_id = headers.get("Nats-Msg-Id")
    return RawMessage(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message_id, message.data, headers)


def _stored(raw: dict[str, str]) -> RawMessage:
    lines = base64.b64decode(raw.get("hdrs", "")).decode().split("\r\n")
    message_id = next((line[12:].strip() for line in lines if line.startswith("Nats-Msg-Id:")), None)
    return RawMessage(int(raw["seq"]), raw["subject"], message_id, base64.b64decode(raw.get("data", "")))
