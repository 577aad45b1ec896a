"""Telling all replicas that a key was revoked, so that they need not find out by themselves."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.api.keys_ring import Keyring

_log = logging.getLogger(__name__)

_SUBJECT: Final = "api.keys.revoked"


class Revocations:
    """Tells all replicas at once. A message that is lost costs no more than `TRUST_SECONDS`."""

    def __init__(self, nc: Client, keyring: Keyring) -> None:
        self._nc = nc
        self._keyring = keyring

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """What others revoke is forgotten inside."""
        subscription = await self._nc.subscribe(_SUBJECT, cb=self._on_revoked)
        try:
            yield
        finally:
            if self._nc.is_connected:
                await subscription.unsubscribe()

    async def tell(self, key_id: str) -> None:
        """The key was revoked."""
        self._keyring.forget(key_id)
        try:
            await self._nc.publish(_SUBJECT, key_id.encode())
        except NatsError as exc:
            _log.warning("The other replicas learn of a revocation later: %s", type(exc).__name__)

    async def _on_revoked(self, message: Msg) -> None:
        self._keyring.forget(message.data.decode("ascii", errors="replace"))
