"""A proxy between client and broker that loses chosen answers of the broker, or takes its time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

Judge = Callable[[bytes], bool]


def is_first_ack(body: bytes) -> bool:
    """Whether the broker says in this message that it has just stored one."""
    start = body.find(b"{")
    if start < 0 or b'"stream":' not in body:
        return False
    answer = orjson.loads(body[start:])
    return "seq" in answer and not answer.get("duplicate") and "error" not in answer


@dataclass
class LossyProxy:
    """`lose`: which message bodies to the client are lost. `cut`: break the connection in their place.

    `delay`: seconds that every answer of the broker is under way.
    """

    lose: Judge
    cut: bool = False
    delay: float = 0.0
    url: str = ""
    lost: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
        address = urlsplit(target)
        try:
            server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(_copy(reader, server_writer)),
            asyncio.create_task(self._copy_answers(server_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            server_writer.close()

    async def _copy_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            frame = line
            if line.startswith((b"MSG ", b"HMSG ")):
                body = await reader.readexactly(int(line.split()[-1]) + 2)
                if self.lose(body):
                    self.lost += 1
                    if self.cut:
                        return
                    continue
                frame += body
            await asyncio.sleep(self.delay)
            writer.write(frame)
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def lossy_proxy(target: str, lose: Judge, *, cut: bool = False, delay: float = 0.0) -> AsyncIterator[LossyProxy]:
    """A proxy in front of the broker at `target`; connect to its `url`."""
    proxy = LossyProxy(lose, cut, delay)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer, target))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=4 * 1024 * 1024)
    proxy.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*connections, return_exceptions=True)
