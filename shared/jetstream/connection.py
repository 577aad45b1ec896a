"""The connection to the broker: one that never gives up by itself, and says so when something is wrong."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

_log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 5
_QUIET_SECONDS: Final = 10.0


class StoppedError(Exception):
    """The process was asked to stop while it waited for the broker."""


def connect_options(name: str) -> dict[str, Any]:
    """Options for `nats.connect` and for FastStream's broker alike.

    The library's own would give up for good after two minutes without a broker, and take four to notice a
    dead link.
    """

    may_log = _Quiet()

    async def on_error(error: Exception) -> None:
        if may_log():
            _log.warning("Trouble on the connection to NATS: %r", error)

    async def on_disconnected() -> None:
        _log.info("No connection to NATS")

    async def on_reconnected() -> None:
        _log.info("Connected to NATS again")

    async def on_closed() -> None:
        _log.info("The connection to NATS is closed")

    return {
        "name": name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.5,
        "ping_interval": 10,
        "max_outstanding_pings": 2,
        "connect_timeout": _CONNECT_SECONDS,
        "drain_timeout": _CONNECT_SECONDS,
        "error_cb": on_error,
        "disconnected_cb": on_disconnected,
        "reconnected_cb": on_reconnected,
        "closed_cb": on_closed,
    }


async def connect(
    url: str | Sequence[str], name: str, *, stop: asyncio.Event | None = None, within: float | None = None
) -> Client:
    """Connect to one of the servers, however long it takes until one is there.

    `url` may hold several addresses, separated by commas. `within` bounds the wait, in seconds.

    Raises:
        StoppedError: `stop` was set before a server answered.
        TimeoutError: none answered in time.
    """
    servers = url.split(",") if isinstance(url, str) else list(url)
    connecting = asyncio.create_task(nats.connect(servers, **connect_options(name)), name="nats-connect")
    stopping = asyncio.create_task((stop or asyncio.Event()).wait(), name="nats-connect-stop")
    try:
        await asyncio.wait({connecting, stopping}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            return connecting.result()
        if stopping.done():
            raise StoppedError("asked to stop while waiting for NATS")
        raise TimeoutError(f"no NATS server answers at {', '.join(map(_without_password, servers))}")
    finally:
        stopping.cancel()
        connecting.cancel()
        await asyncio.gather(connecting, stopping, return_exceptions=True)


async def close(nc: Client) -> None:
    """Close the connection; unlike the library's own, without an error when the broker is gone."""
    try:
        await nc.close()
    except (NatsError, OSError, TimeoutError) as exc:
        _log.info("The broker was gone before the connection was closed: %r", exc)


class _Quiet:
    """Lets one log line through each `_QUIET_SECONDS`: a missing server fails twice a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _QUIET_SECONDS
        return True


def _without_password(address: str) -> str:
    return address.rsplit("@", 1)[-1]
