"""What the api does not do yet it refuses by name, instead of doing something else in silence."""

import pytest

from tests.integration.api.system import running_api

BODY = {"repository": "acme/shop", "tasks": [{"title": "One", "description": "Change one line of it."}]}


@pytest.mark.timeout(60)
async def test_an_idempotency_key_is_refused_and_nothing_is_created(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        refused = await api.http.post("/api/orchestrations", json=BODY, headers={"Idempotency-Key": "k1"})
        assert refused.status_code == 400
        assert refused.json()["error"]["metadata"]["fields"][0]["field"] == "Idempotency-Key"
        assert (await api.http.get("/api/orchestrations")).json()["items"] == []


@pytest.mark.timeout(60)
async def test_a_filter_that_the_list_does_not_have_is_refused_by_name(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        refused = await api.http.get("/api/orchestrations", params={"status": "ACTIVE"})
        assert refused.status_code == 400
        assert refused.json()["error"]["metadata"]["fields"][0]["field"] == "status"
