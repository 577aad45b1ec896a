"""Receipts: a webhook of the provider is a hint that makes us look at the agent."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import orjson

from services.monitor.observer import Observer
from shared.cursor.answers import END_WORDS
from shared.cursor.errors import ProviderError
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.messages import Receipt

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# After this many looks that do not confirm the hint, the poll is trusted to see the end.
_LOOKS = 5
_ENDED = END_WORDS | {"FAILED"}  # a word of older webhooks


@dataclass(frozen=True, slots=True)
class Receipts:
    observer: Observer

    async def on_receipt(self, delivery: Delivery) -> None:
        """Look at the agent that one receipt of RECEIPTS tells of."""
        try:
            receipt = Receipt.decode(delivery.data)
            agent_id, status = read_hint(receipt.body.encode())
        except ValueError as exc:
            raise Poison(str(exc)) from exc
        with self.observer.attending(receipt, delivery):
            await self._look(receipt, agent_id, status, delivery.deliveries)

    async def _look(self, receipt: Receipt, agent_id: str | None, status: str, deliveries: int) -> None:
        try:
            # The address is that of the attempt that created the agent, whichever it works for by now.
            of_agent = replace(receipt, attempt_id=await self.observer.at_work(receipt))
            attempt = await self.observer.look(of_agent, "webhook", agent_id=agent_id)
        except ProviderError as error:
            pause = error.retry_after or min(_PAUSE_SECONDS * 2 ** min(deliveries, 6), _LONGEST_PAUSE_SECONDS)
            raise Later(pause, f"could not ask: {error}") from error
        if status in _ENDED and not attempt.is_agent_over:
            if deliveries < _LOOKS:
                raise Later(_PAUSE_SECONDS * deliveries, f"told of {status}, not all of it is seen yet")
            _log.info("Told of %s, but the agent does not show all of that yet; left to the poll", status)


def read_hint(body: bytes) -> tuple[str | None, str]:
    """The agent's id and status in a webhook's body, in its present form or the older one.

    Raises:
        ValueError: not JSON, or without a status.
    """
    raw: Any = orjson.loads(body)
    if not isinstance(raw, dict) or not isinstance(raw.get("status"), str):
        raise ValueError("not a status change")
    agent_id = raw.get("id") or raw.get("agentId")
    return (agent_id if isinstance(agent_id, str) else None), raw["status"]
