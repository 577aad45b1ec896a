"""Deliveries: each notification is prepared, sent, and what became of it recorded; at least once, over three days."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import psycopg

from services.notifier.channels.webhook import Prepared, host_of
from services.notifier.history import state_as_of
from services.notifier.notification import Notification
from services.notifier.outcome import Kind, Outcome
from services.notifier.places import HostBusyError, Places
from services.notifier.records import Records, Try, Verdict
from services.notifier.schedule import SCHEDULE, delay_after, number_of_try
from shared.domain.state import Orchestration, milliseconds
from shared.jetstream.consumer import Delivery, Later, Poison
from shared.observability.logging import log_context
from shared.observability.metrics import ERRORS, WEBHOOK_DELIVERIES
from shared.ports import Clock, EventLog

_log = logging.getLogger(__name__)

FAILED: Final = "WEBHOOK_DELIVERY_FAILED"
_BUSY_SECONDS: Final = 10.0
_NO_RECORD_SECONDS: Final = 5.0


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
    records: Records
    places: Places = field(default_factory=Places)
    chance: random.Random = field(default_factory=random.Random)
    schedule: Sequence[timedelta] = SCHEDULE

    async def on_notification(self, delivery: Delivery) -> None:
        """Make one try at a message of DELIVERIES.

        It is written down before it is sent, so that there is no try without a record. A crash between the send and
        the ack repeats the try with the same id, and none is left out.

        Raises:
            Later: it failed and is to be tried again, the receiver's host is busy, or the database is away.
            Poison: it failed for good.
        """
        try:
            notification = Notification.decode(delivery.data)
        except ValueError as exc:
            # The error's text may show the address, and the reason is logged.
            raise Poison(f"not a notification: {type(exc).__name__}") from exc
        ids = {"orchestration": notification.orchestration_id, "delivery": notification.delivery_id}
        with log_context(**ids):
            try:
                async with self.places.take(host_of(notification.url)):
                    made, verdict = await self._try(notification, delivery.deliveries)
            except HostBusyError as exc:
                raise Later(_BUSY_SECONDS * (0.5 + self.chance.random()), str(exc)) from exc
            await self._keep(made, verdict)
            self._conclude(made, verdict)

    async def _try(self, notification: Notification, deliveries: int) -> tuple[Try, Verdict]:
        state = await state_as_of(self.log, notification.team, notification.orchestration_id, notification.event_id)
        now = self.clock.now()
        prepared = self.channel.prepare(notification, state, now)
        made = await self._begin(notification, now)
        outcome = await self.channel.send(prepared)
        WEBHOOK_DELIVERIES.labels(self.channel.name, outcome.kind.value).inc()
        return made, self._judge(made, deliveries, outcome)

    async def _begin(self, notification: Notification, now: datetime) -> Try:
        try:
            return await self.records.begin(notification, self.channel.name, now)
        except psycopg.OperationalError as exc:
            raise Later(_NO_RECORD_SECONDS, f"no try without a record: {type(exc).__name__}") from exc

    def _judge(self, made: Try, deliveries: int, outcome: Outcome) -> Verdict:
        now = self.clock.now()
        took = milliseconds(now - made.started_at)
        if outcome.kind is Kind.DELIVERED:
            return Verdict(outcome, took, now, "DELIVERED")
        since = made.notification.redelivered_at or made.notification.occurred_at
        # The broker also counts what came to a process that died before it tried; the record, tries asked for by hand.
        tries = min(made.number, number_of_try(deliveries, now - since, self.schedule))
        delay = None if outcome.is_final else self._delay(tries, outcome)
        if delay is not None:
            return Verdict(outcome, took, now, "PENDING", now + delay)
        return Verdict(outcome, took, now, "FAILED", error=f"{FAILED}: {outcome.kind.value}: {outcome.detail}")

    def _delay(self, tries: int, outcome: Outcome) -> timedelta | None:
        return delay_after(tries, chance=self.chance.random(), retry_after=outcome.retry_after, schedule=self.schedule)

    async def _keep(self, made: Try, verdict: Verdict) -> None:
        try:
            await self.records.end(made, verdict)
        except psycopg.OperationalError as exc:
            # It is sent, or it is not: to send it again for the record's sake would be worse than a gap in the record.
            _log.warning("The outcome of a try is not recorded: %s", type(exc).__name__)

    def _conclude(self, made: Try, verdict: Verdict) -> None:
        """Ack what is delivered; the rest by what is raised."""
        outcome, event = verdict.outcome, made.notification.event_type
        told = {"try": made.number, "outcome": outcome.kind.value, "host": host_of(made.notification.url)}
        if verdict.status == "DELIVERED":
            _log.info("Delivered %s: %s", event, outcome.detail, extra=told)
            return
        if verdict.next_at is not None:
            delay = (verdict.next_at - verdict.ended_at).total_seconds()
            _log.info("Not delivered, again in %d s: %s", delay, outcome.detail, extra=told)
            raise Later(delay, f"{outcome.kind.value} at try {made.number}")
        ERRORS.labels("webhook", FAILED).inc()
        _log.error(
            "Gave up on the delivery of %s after try %d: %s",
            event,
            made.number,
            outcome.detail,
            extra={**told, "code": FAILED},
        )
        raise Poison(f"{FAILED}: {outcome.kind.value} at try {made.number}: {outcome.detail}")
