"""Deliveries: each notification is prepared, sent, and what became of it recorded; at least once, over three days."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.notifier.channels.webhook import Prepared, host_of
from services.notifier.history import state_as_of
from services.notifier.notification import Notification
from services.notifier.outcome import Kind, Outcome
from services.notifier.places import HostBusyError, Places
from services.notifier.schedule import SCHEDULE, delay_after, number_of_try
from shared.domain.state import Orchestration
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.observability.logging import log_context
from shared.observability.metrics import ERRORS, WEBHOOK_DELIVERIES
from shared.ports import Clock, EventLog

_log = logging.getLogger(__name__)

FAILED: Final = "WEBHOOK_DELIVERY_FAILED"
_BUSY_SECONDS: Final = 10.0


class Channel(Protocol):
    """A way to tell a receiver."""

    name: str

    def prepare(self, notification: Notification, state: Orchestration, now: datetime) -> Prepared:
        """What is sent at the try that is made `now`."""

    async def send(self, prepared: Prepared) -> Outcome:
        """Send it; whatever goes wrong is an outcome."""


@dataclass(frozen=True, slots=True)
class Deliverer:
    log: EventLog
    clock: Clock
    channel: Channel
    places: Places = field(default_factory=Places)
    chance: random.Random = field(default_factory=random.Random)
    schedule: Sequence[timedelta] = SCHEDULE

    async def on_notification(self, delivery: Delivery) -> None:
        """Make one try at a message of DELIVERIES.

        Nothing is written between the send and the ack, so a crash in between repeats the try with the same id, and
        none is left out.

        Raises:
            Later: it failed and is to be tried again, or the receiver's host is busy.
            Poison: it failed for good.
        """
        try:
            notification = Notification.decode(delivery.data)
        except ValueError as exc:
            # The error's text may show the address, and the reason is logged.
            raise Poison(f"not a notification: {type(exc).__name__}") from exc
        ids = {"orchestration": notification.orchestration_id, "delivery": notification.delivery_id}
        with log_context(**ids):
            outcome = await self._try(notification)
            self._record(notification, delivery.deliveries, outcome)

    async def _try(self, notification: Notification) -> Outcome:
        team, orchestration = notification.team, notification.orchestration_id
        try:
            async with self.places.take(host_of(notification.url)):
                state = await state_as_of(self.log, team, orchestration, notification.event_id)
                return await self.channel.send(self.channel.prepare(notification, state, self.clock.now()))
        except HostBusyError as exc:
            raise Later(_BUSY_SECONDS * (0.5 + self.chance.random()), str(exc)) from exc

    def _record(self, notification: Notification, deliveries: int, outcome: Outcome) -> None:
        WEBHOOK_DELIVERIES.labels(self.channel.name, outcome.kind.value).inc()
        tries = number_of_try(deliveries, self.clock.now() - notification.occurred_at, self.schedule)
        told = {"try": tries, "outcome": outcome.kind.value, "host": host_of(notification.url)}
        if outcome.kind is Kind.DELIVERED:
            _log.info("Delivered %s: %s", notification.event_type, outcome.detail, extra=told)
            return
        delay = None if outcome.is_final else self._delay(tries, outcome)
        if delay is not None:
            _log.info("Not delivered, again in %d s: %s", delay.total_seconds(), outcome.detail, extra=told)
            raise Later(delay.total_seconds(), f"{outcome.kind.value} at try {tries}")
        ERRORS.labels("webhook", FAILED).inc()
        _log.error(
            "Gave up on the delivery of %s after try %d: %s",
            notification.event_type,
            tries,
            outcome.detail,
            extra={**told, "code": FAILED},
        )
        raise Poison(f"{FAILED}: {outcome.kind.value} at try {tries}: {outcome.detail}")

    def _delay(self, tries: int, outcome: Outcome) -> timedelta | None:
        return delay_after(tries, chance=self.chance.random(), retry_after=outcome.retry_after, schedule=self.schedule)
