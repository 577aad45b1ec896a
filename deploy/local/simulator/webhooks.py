"""Sends the older version's webhooks: signed, and repeated until they are taken or given up."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

import httpx

from deploy.local.simulator.agents import Webhook
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.stats import Stats

Form = Literal["real", "old"]

TRIES = 6
_TIMEOUT = httpx.Timeout(10.0, pool=None)
# How many the real sender makes at once is not known; a bound keeps a burst from opening a socket each.
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=64)


@dataclass(slots=True, eq=False)
class _Delivery:
    url: str
    body: bytes
    headers: dict[str, str] = field(repr=False)
    tried: Callable[[], object]
    attempts: int = 0


class WebhookSender:
    """One connection pool for all deliveries; one that waits for its next try is a timer, not a task."""

    def __init__(self, clock: Clock, stats: Stats, backoff_seconds: float) -> None:
        self._clock = clock
        self._stats = stats
        self._backoff = backoff_seconds
        self._client: httpx.AsyncClient | None = None
        self._pending: set[_Delivery] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(
        self, webhook: Webhook, body: bytes, *, form: Form, badly_signed: bool, tried: Callable[[], object]
    ) -> None:
        """Start the delivery of `body` and return; what becomes of it shows in the stats.

        `tried` is called after each try, however that went.
        """
        delivery = _Delivery(webhook.url, body, _headers(webhook, body, form, badly_signed), tried)
        self._pending.add(delivery)
        self._launch(delivery)

    def clear(self) -> None:
        """Drop every delivery that is still under way."""
        self._pending.clear()
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        self.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def _launch(self, delivery: _Delivery) -> None:
        if delivery in self._pending:
            task = asyncio.get_running_loop().create_task(self._try(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _try(self, delivery: _Delivery) -> None:
        delivery.attempts += 1
        self._stats.webhooks.attempts += 1
        taken = await self._post(delivery)
        delivery.tried()
        if taken:
            self._stats.webhooks.delivered += 1
        elif delivery.attempts < TRIES:
            wait = self._backoff * 2 ** (delivery.attempts - 1)
            self._clock.call_later(wait, self._launch, delivery)
            return
        else:
            self._stats.webhooks.failed += 1
        self._pending.discard(delivery)

    async def _post(self, delivery: _Delivery) -> bool:
        """Whether the receiver answered 2xx; redirects are not followed."""
        if self._client is None:
            # A proxy from the environment would take away webhooks to this machine.
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)
        try:
            response = await self._client.post(delivery.url, content=delivery.body, headers=delivery.headers)
        except httpx.HTTPError:
            return False
        return response.is_success


def _headers(webhook: Webhook, body: bytes, form: Form, badly_signed: bool) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "Cursor-Agent-Webhook/1.0"}
    if form == "real":
        headers |= {"X-Webhook-Event": "statusChange", "X-Webhook-ID": str(uuid4())}
    if webhook.secret is not None:
        secret = f"not {webhook.secret}" if badly_signed else webhook.secret
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Webhook-Signature" if form == "real" else "X-Cursor-Signature"] = f"sha256={digest}"
    return headers
