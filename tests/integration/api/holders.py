"""Keys of several teams, made as their operator makes them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from services.api.auth import ALL_PERMISSIONS
from tests.integration.api.system import Running


async def make_key(api: Running, team: str = "default", permissions: Sequence[str] | None = None) -> dict[str, Any]:
    """A key, as it was answered; with every permission if none are named."""
    wanted = {"name": f"key of {team}", "team": team, "permissions": sorted(permissions or ALL_PERMISSIONS)}
    response = await api.http.post("/api/keys", json=wanted)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


@asynccontextmanager
async def holding(api: Running, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that shows this key."""
    headers = {"X-API-Key": key}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client
