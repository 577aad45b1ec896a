"""Whether the broker keeps what it has acknowledged, power cut or not."""

import asyncio
import http.client
import json
import urllib.request
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared.jetstream.errors import WeakBrokerError

_SAFE_REPLICAS: Final = 3
_SECONDS: Final = 5.0
"""For each answer. A machine on which all services start at once may stand still for a while; but this is not heard to
be stopped, so that three times as long must be over well before a service has to be."""


async def check_durability(nc: Client, *, replicas: int, monitor_url: str | None) -> None:
    """Three replicas survive the loss of one machine; a single node must write to disk before its ack.

    By default it does not: everything of the last two minutes is gone after a power cut. Nothing on the
    connection of an ordinary account tells the server's `sync_interval`, so its monitoring port is asked.

    Raises:
        WeakBrokerError: it does not, or it cannot be learned.
    """
    if replicas >= _SAFE_REPLICAS:
        return
    if not monitor_url:
        raise WeakBrokerError(
            "NATS_MONITOR_URL is not set, and only there can a single node be asked whether it is durable"
        )
    try:
        answer = await asyncio.wait_for(asyncio.to_thread(_read_monitor, monitor_url), 2 * _SECONDS)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise WeakBrokerError(f"the monitoring at NATS_MONITOR_URL does not answer as it should: {exc}") from exc
    if answer.get("server_id") != await _connected_server(nc):
        raise WeakBrokerError("NATS_MONITOR_URL is the monitoring of another server than NATS_URL")
    if (answer.get("config") or {}).get("sync_always") is not True:
        raise WeakBrokerError(
            "the broker may lose acknowledged messages in a power cut: "
            "its configuration lacks `sync_interval: always` in the block `jetstream`"
        )


def _read_monitor(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.rstrip('/')}/jsz?config=true", timeout=_SECONDS) as answer:
        body = json.load(answer)
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    return body


async def _connected_server(nc: Client) -> str:
    """The id of the server at the other end; any account may ask for it."""
    try:
        reply = await nc.request("$SYS.REQ.USER.INFO", b"", timeout=_SECONDS)
    except (NatsError, TimeoutError) as exc:
        raise WeakBrokerError(f"the broker does not say which server it is: {exc!r}") from exc
    server: str = orjson.loads(reply.data).get("server", {}).get("id", "")
    return server
