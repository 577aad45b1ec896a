"""What stands at the door of the api: keys, their limits, and telling other replicas."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from services.api.auth import Authenticator, Gate, OneKey
from services.api.failed_attempts import FailedAttempts
from services.api.keys_first import first_key_ensured
from services.api.keys_revoked import Revocations
from services.api.keys_ring import Keyring
from services.api.keys_table import KeyTable
from services.api.keys_use import LastUse
from services.api.request_limit import PostgresShares, RequestQuota
from services.api.settings import ApiSettings
from shared.ports import Clock
from shared.postgres.pool import make_pool
from shared.process import Runtime

_CONNECTIONS: Final = 3
"""Apart from those of the requests: who may come in must not have to wait for what others ask inside."""


@dataclass(frozen=True, slots=True)
class Access:
    """`gate` lets requests in; `keys` and `revocations` are for managing keys."""

    gate: Gate
    keys: KeyTable
    revocations: Revocations


@asynccontextmanager
async def open_access(settings: ApiSettings, runtime: Runtime, clock: Clock) -> AsyncIterator[Access]:
    """The door, open inside."""
    async with AsyncExitStack() as stack:
        dsn = settings.database_url.get_secret_value()
        pool = await stack.enter_async_context(make_pool(dsn, name="api-access", max_size=_CONNECTIONS))
        table = KeyTable(pool)
        last_use = LastUse(table.note_used, clock)
        stack.enter_context(runtime.supervising(await stack.enter_async_context(last_use.written())))
        keyring = Keyring(table, clock, on_use=last_use.note)
        stack.push_async_callback(keyring.aclose)
        revocations = Revocations(runtime.nc, keyring)
        await stack.enter_async_context(revocations.heard())
        authenticators: list[Authenticator] = [keyring]
        if settings.orchestrator_api_key is None:
            first = first_key_ensured(table, team=settings.team, environment=settings.environment)
            await stack.enter_async_context(first)
        else:
            authenticators.insert(0, OneKey(settings.orchestrator_api_key.get_secret_value(), team=settings.team))
        failures = FailedAttempts(settings.failed_attempts_per_minute)
        quota = RequestQuota(PostgresShares(pool), settings.requests_per_minute)
        yield Access(Gate(authenticators, failures, quota), table, revocations)
