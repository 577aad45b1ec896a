"""Repositories, and the files that agents leave."""

from urllib.parse import urlsplit

import httpx

from tests.simulator.hand_clock import HandClock
from tests.simulator.serving import create_v1, in_process, json_of, refusal


async def test_repositories_are_listed_in_each_versions_form() -> None:
    urls = ["https://github.com/acme/shop", "https://github.com/acme/site"]
    async with in_process(repositories=urls, repositories_per_minute=0) as client:
        assert json_of(await client.get("/v0/repositories")) == {
            "repositories": [
                {"owner": "acme", "name": "shop", "repository": urls[0]},
                {"owner": "acme", "name": "site", "repository": urls[1]},
            ]
        }
        assert json_of(await client.get("/v1/repositories")) == {"items": [{"url": url} for url in urls]}


async def test_a_run_that_finished_leaves_a_report_which_both_versions_list() -> None:
    clock = HandClock()
    async with in_process(clock, duration_seconds=10) as client:
        path = f"/v1/agents/{(await create_v1(client))['agent']['id']}"
        assert json_of(await client.get(f"{path}/artifacts")) == {"items": []}
        await clock.move(10)
        [listed] = json_of(await client.get(f"{path}/artifacts"))["items"]
        assert listed == {
            "path": "artifacts/report-1.md",
            "sizeBytes": listed["sizeBytes"],
            "updatedAt": "2026-11-01T12:00:10.000Z",
        }
        [old] = json_of(await client.get(f"{path.replace('v1', 'v0')}/artifacts"))["artifacts"]
        assert old == {
            "absolutePath": "/opt/cursor/artifacts/report-1.md",
            "sizeBytes": listed["sizeBytes"],
            "updatedAt": listed["updatedAt"],
        }


async def test_a_file_is_fetched_from_its_signed_address_without_the_key() -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        path = f"/v1/agents/{(await create_v1(client))['agent']['id']}/artifacts"
        await clock.move(10)
        [listed] = json_of(await client.get(path))["items"]
        link = json_of(await client.get(f"{path}/download", params={"path": listed["path"]}))
        assert link["expiresAt"] == "2026-11-01T12:15:10.000Z"
        old = f"{path.replace('v1', 'v0')}/download"
        assert json_of(await client.get(old, params={"path": f"/opt/cursor/{listed['path']}"})) == link

        content = await client.get(link["url"], auth=None)
        assert content.status_code == 200
        assert len(content.content) == listed["sizeBytes"]
        assert "Add a README" in content.text

        with_key = await client.get(link["url"])
        assert (with_key.status_code, "Only one auth mechanism" in with_key.text) == (400, True)
        assert _status(await client.get(link["url"][:-1] + "x", auth=None)) == 403
        other = link["url"].replace("report-1", "report-2")
        assert _status(await client.get(other, auth=None)) == 403
        await clock.move(900.1)
        assert _status(await client.get(link["url"], auth=None)) == 403


async def test_what_is_not_there_is_not_linked_to() -> None:
    async with in_process() as client:
        path = f"/v1/agents/{(await create_v1(client))['agent']['id']}/artifacts/download"
        refusal(await client.get(path, params={"path": "artifacts/none.png"}), 404, "artifact_not_found")
        assert "path:" in refusal(await client.get(path), 400, "validation_error")
        missing = "/v0/agents/bc-none/artifacts"
        refusal(await client.get(missing), 404, "agent_not_found")
        refusal(await client.get(f"{missing}/download?path=x"), 404, "agent_not_found")


async def test_a_link_to_the_file_of_an_agent_that_is_gone_leads_nowhere() -> None:
    clock = HandClock()
    async with in_process(clock) as client:
        path = f"/v1/agents/{(await create_v1(client))['agent']['id']}"
        await clock.move(10)
        link = json_of(await client.get(f"{path}/artifacts/download", params={"path": "artifacts/report-1.md"}))
        assert urlsplit(link["url"]).netloc == "simulator"
        await client.delete(path)
        assert _status(await client.get(link["url"], auth=None)) == 404


def _status(answer: httpx.Response) -> int:
    """Of a refusal by the storage service, which speaks XML."""
    assert answer.text.startswith("<Error>")
    return answer.status_code
