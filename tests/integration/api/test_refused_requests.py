"""What the api does not do yet it refuses by name, instead of doing something else in silence."""

import pytest

from tests.integration.api.system import running_api


@pytest.mark.timeout(60)
async def test_a_filter_that_the_list_does_not_have_is_refused_by_name(nats_url: str, database_url: str) -> None:
    async with running_api(nats_url, database_url) as api:
        refused = await api.http.get("/api/orchestrations", params={"status": "ACTIVE"})
        assert refused.status_code == 400
        assert refused.json()["error"]["metadata"]["fields"][0]["field"] == "status"
