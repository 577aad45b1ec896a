"""Answers to requests by core NATS: whoever waits hears it; nobody else needs it, so it is not stored."""

from nats.aio.client import Client
from nats.errors import Error as NatsError

from shared import failpoints
from shared.jetstream.errors import PublishUnavailableError


@failpoints.around("reply")
async def send_reply(nc: Client, reply_to: str, data: bytes) -> None:
    """Send `data` to the inbox that a request named.

    Raises:
        PublishUnavailableError: it could not be handed to the broker.
    """
    try:
        await nc.publish(reply_to, data)
    except NatsError as exc:
        raise PublishUnavailableError(f"cannot answer {reply_to}: {exc!r}") from exc
