"""Timers kept by the broker: a message that arrives when it is due, even if nobody ran in between."""

from datetime import UTC, datetime
from typing import Final, Protocol

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import Header

from shared import failpoints
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError
from shared.jetstream.publish import BrokerRefusal, check_size, request_ack
from shared.jetstream.retry import Backoff
from shared.jetstream.topology import TIMERS, timer_due_subject, timer_subject

_TRY: Final = 5.0


class Timers(Protocol):
    """Timers by name, such as `("orchestration", id, "start")`. Setting one again moves it.

    A timer is a hint, like every message: it may come late, twice, or after it was cancelled. What happens
    then is decided by what the log says.
    """

    async def set(self, *name: str, due_at: datetime, payload: bytes) -> None:
        """Have `payload` arrive on `timer.due.<name>` at `due_at`, at once if that is past.

        Raises:
            PublishUnavailableError: no answer in time; it may be set or not.
            PublishRefusedError: the broker will not take it.
        """

    async def cancel(self, *name: str) -> None:
        """Forget the timer; one that is not set is no error.

        Raises:
            PublishUnavailableError: no answer in time.
            PublishRefusedError: the broker refuses.
        """


class JetStreamTimers:
    """`Timers` as message schedules of the stream TIMERS; they fire up to a quarter of a second late."""

    def __init__(self, nc: Client, *, budget: float = 30.0) -> None:
        self._nc = nc
        self._budget = budget

    @failpoints.around("timers.set")
    async def set(self, *name: str, due_at: datetime, payload: bytes) -> None:
        check_size(payload)
        if due_at.tzinfo is None:
            raise ValueError("due_at needs a time zone")
        headers = {
            "Nats-Schedule": f"@at {due_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "Nats-Schedule-Target": timer_due_subject(*name),
            Header.EXPECTED_STREAM.value: TIMERS,
        }
        try:
            await request_ack(self._nc, timer_subject(*name), payload, headers, Backoff(budget=self._budget))
        except BrokerRefusal as exc:
            raise PublishRefusedError(str(exc)) from exc

    @failpoints.around("timers.cancel")
    async def cancel(self, *name: str) -> None:
        body = orjson.dumps({"filter": timer_subject(*name)})
        backoff = Backoff(budget=self._budget)
        last: Exception | None = None
        while backoff.remaining > 0 and not self._nc.is_closed:
            try:
                reply = await self._nc.request(f"$JS.API.STREAM.PURGE.{TIMERS}", body, timeout=_TRY)
                error = orjson.loads(reply.data).get("error")
                if error is None:
                    return
                if error["code"] < 500:
                    raise PublishRefusedError(error.get("description", ""))
                last = NatsError(error.get("description", ""))
            except (NatsError, TimeoutError) as exc:
                last = exc
            await backoff.wait()
        raise PublishUnavailableError(f"no answer from the broker: {last!r}") from last
