"""Keeps what users make us call away from the operator's own network.

The address is checked twice: the text before anything is done, and what its name leads to when the connection is made.
The name is resolved once, every address found must be a public one, and the connection goes to a checked address, so
that a name which changes its mind in between leads nowhere.
"""

import asyncio
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpcore
import httpx

Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]

_PORTS: Final = (443, 8443)
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")

# Own tables: what `ipaddress` calls global differs between versions of Python, and takes NAT64, 6to4 and multicast
# for public, behind which the local network may be.
_NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and other special purposes
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)


class BlockedError(Exception):
    """Nothing is sent there; the message says why, without showing the address."""


def is_public(address: str) -> bool:
    """Whether the IP address is one of the open internet; False too for what is no IP address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)


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
        """Read the address.

        Raises:
            BlockedError: by its text alone it is one that nothing is sent to.
        """
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as exc:
            raise BlockedError("not an address") from exc
        if parsed.userinfo:
            raise BlockedError("addresses with a user name or password are not allowed")
        if not parsed.raw_host:
            raise BlockedError("the address names no host")
        if parsed.scheme != "https" and not (self._allow_private and parsed.scheme == "http"):
            raise BlockedError("only https addresses are allowed")
        if not self._allow_private:
            _check_port(443 if parsed.port is None else parsed.port)
            _check_host(parsed.raw_host.decode().lower().rstrip("."))
        return parsed

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
            _check_port(port)
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


def _check_port(port: int) -> None:
    if port not in _PORTS:
        raise BlockedError(f"port {port} is not one of {', '.join(map(str, _PORTS))}")


def _check_host(host: str) -> None:
    if _is_literal(host):
        raise BlockedError("addresses must have a name, not a number")
    if not _NAME.fullmatch(host):
        raise BlockedError("the address does not name a host")
    if host == "localhost" or host.endswith(".localhost"):
        raise BlockedError("the name is that of this machine")


def _is_literal(host: str) -> bool:
    """Whether the host is an IP address, in any form that a resolver understands: 127.1 and 0x7f000001, too."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            socket.inet_aton(host)
        except OSError:
            return False
    return True
