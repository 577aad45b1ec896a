"""A receiver of webhooks on this machine that answers as it is told, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass(slots=True)
class Receiver:
    """`answers` are given one after the other, the last one for ever; `requests` is what came."""

    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            self.requests.append(await _read(reader))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._serving.discard(task)

    async def stop(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Received(head[0].split(" ")[1], headers, body, asyncio.get_running_loop().time())


def status(code: int, **headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [
            f"HTTP/1.1 {code} Told",
            "Content-Length: 2",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", "ok"]).encode())

    return answer


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@asynccontextmanager
async def receiver(*answers: Answer) -> AsyncIterator[Receiver]:
    told = Receiver(answers=list(answers))
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()
        await told.stop()
