"""Lines of JSON go out as fast as the client takes them, and stop when it leaves."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from services.api import ndjson
from services.api.ndjson import Lines
from tests.support.eventually import eventually

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """Gives chunks for ever; counts them, and knows whether it was closed."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.given += 1
                yield b"%d\n" % self.given
        finally:
            self.closed = True


class Client:
    """Takes as many messages as it is allowed to, and leaves when told to."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.left = asyncio.Event()
        self._room = asyncio.Semaphore(0)

    def take(self, messages: int) -> None:
        for _ in range(messages):
            self._room.release()

    async def send(self, message: Message) -> None:
        await self._room.acquire()
        self.taken.append(message)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_no_more_is_read_than_the_client_takes() -> None:
    source, client = Source(), Client()
    answering = asyncio.create_task((await Lines.begun(source.chunks()))(SCOPE, client.receive, client.send))
    assert source.given == 1
    client.take(5)  # the head and four chunks
    await eventually(lambda: len(client.taken) == 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.given == 5
    assert [message.get("body") for message in client.taken] == [None, b"1\n", b"2\n", b"3\n", b"4\n"]
    client.left.set()
    await answering
    assert source.closed
    assert source.given == 5


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "_SEND_SECONDS", 0.05)
    source, client = Source(), Client()
    client.take(2)
    async with asyncio.timeout(30):
        await (await Lines.begun(source.chunks()))(SCOPE, client.receive, client.send)
    assert source.closed
    assert all(message.get("more_body", True) for message in client.taken), "it must not look whole"


async def test_what_fails_at_once_can_still_be_answered_as_an_error() -> None:
    with pytest.raises(ValueError, match="no database"):
        await Lines.begun(chunks(ValueError("no database")))


async def test_nothing_is_a_whole_answer() -> None:
    client = Client()
    client.take(10)
    await (await Lines.begun(chunks()))(SCOPE, client.receive, client.send)
    assert client.taken[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def chunks(*failures: Exception) -> AsyncGenerator[bytes, None]:
    """None at all, or a failure instead of the first."""
    for failure in failures:
        raise failure
    for _ in failures:
        yield b""
