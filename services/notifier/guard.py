"""Keeps what users make us call away from the operator's own network.

The address is checked twice: the text before anything is done, and what its name leads to when the connection is made.
The name is resolved once, every address found must be a public one, and the connection goes to a checked address, so
that a name which changes its mind in between leads nowhere.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable

import httpcore
import httpx

from shared.receiver_address import BlockedError, check_address, check_port, is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, in the order in which to try them.

    Each look-up has a thread of its own: in a shared pool, names whose servers do not answer would hold up the others.

    Raises:
        OSError: the name leads nowhere.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: OSError | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(addresses)

    def look_up() -> None:
        addresses: list[str] = []
        error: OSError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except OSError as exc:
            error = exc
        except UnicodeError as exc:
            error = OSError(f"not a name: {exc}")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, addresses, error)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    return await found


class Guard(httpcore.AsyncNetworkBackend):
    """Makes the connections. `allow_private` switches the checks off: http, any port, private addresses."""

    def __init__(self, *, allow_private: bool = False, resolve: Resolve = resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._network: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    def check(self, url: str) -> httpx.URL:
        """Read the address, see `check_address`.

        Raises:
            BlockedError: by its text alone it is one that nothing is sent to.
        """
        return check_address(url, allow_private=self._allow_private)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to an address of `host`, within `timeout` seconds for look-up and connection together.

        Raises:
            BlockedError: one of the addresses, or the port, is not allowed; nothing was connected to.
        """
        deadline = time.monotonic() + (timeout if timeout is not None else 60.0)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                addresses = await self._resolve(host, port)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from exc
        except OSError as exc:
            raise httpcore.ConnectError("the name leads nowhere") from exc
        if not self._allow_private:
            check_port(port)
            if not all(is_public(address) for address in addresses):
                raise BlockedError("the name leads to an address that is not public")
        return await self._connect_first(addresses, port, deadline, local_address, socket_options)

    async def _connect_first(
        self,
        addresses: list[str],
        port: int,
        deadline: float,
        local_address: str | None,
        socket_options: SocketOptions | None,
    ) -> httpcore.AsyncNetworkStream:
        """Try one address after the other; each may take its share of the time that is left."""
        failure: Exception = httpcore.ConnectError("the name has no address")
        for index, address in enumerate(addresses):
            share = (deadline - time.monotonic()) / (len(addresses) - index)
            try:
                return await self._network.connect_tcp(address, port, max(share, 0.001), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise BlockedError("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
