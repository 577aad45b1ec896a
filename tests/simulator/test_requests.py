"""Keys and bodies: what is let in, and how the rest is turned away."""

import base64
from typing import Any

import httpx
import pytest

from deploy.local.simulator import SimulatorSettings, create_app
from tests.simulator.serving import QUICK, REPOSITORY, json_of, refusal, simulator, v0_body, v1_body

AGENT_ID = "bc-00000000-0000-4000-8000-000000000001"
PNG = {"data": "aGk=", "mimeType": "image/png"}
REPO_V0 = {"source": {"repository": REPOSITORY}}
SUBAGENT = {"name": "reviewer", "description": "d", "prompt": "p"}

BOTH = pytest.mark.parametrize("version", ["v0", "v1"])


@BOTH
async def test_a_key_is_taken_as_basic_user_name_and_as_bearer(version: str) -> None:
    async with simulator(api_key="secret") as client:
        basic = base64.b64encode(b"secret:").decode()
        for header in (f"Basic {basic}", "Bearer secret"):
            response = await client.get(f"/{version}/me", headers={"Authorization": header}, auth=None)
            assert json_of(response)["apiKeyName"]


BAD_KEYS = ["", "Bearer wrong", "Bearer \xe9", "Basic !!", "Basic \xe9", "Basic c2VjcmV0IQ==", "Digest secret"]


@pytest.mark.parametrize("header", BAD_KEYS)
async def test_a_bad_key_gets_the_live_apis_flat_401(shared_client: httpx.AsyncClient, header: str) -> None:
    headers = {b"Authorization": header.encode("latin-1")}
    response = await shared_client.get("/v1/agents", headers=headers, auth=None)
    assert response.status_code == 401
    assert response.json() == {"code": "error", "message": "Invalid User API Key"}


async def test_any_key_is_good_when_none_is_set_but_no_key_is_not() -> None:
    async with simulator() as client:
        assert (await client.get("/v1/me", auth=("anything", ""))).status_code == 200
        assert (await client.get("/v1/me", auth=None)).status_code == 401


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_makes_no_agent_and_no_error() -> None:
    app = create_app(SimulatorSettings(**QUICK))
    coming: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"prompt"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(_: object) -> None:
        """To nobody."""

    scope = {"type": "http", "method": "POST", "path": "/v1/agents", "query_string": b""}
    await app({**scope, "headers": [(b"authorization", b"Bearer key")]}, receive, send)
    assert app.state.simulator.stats.view()["creates"] == 0
    await app.state.simulator.aclose()


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v0/agents", v0_body(name="x"), "name"),
        ("/v0/agents", v0_body(model=None), "model"),
        ("/v0/agents", v0_body(target={"branchName": None}), "target.branchName"),
        ("/v0/agents", v0_body(target={"autoCreatePr": "true"}), "target.autoCreatePr"),
        ("/v0/agents", v0_body(target={"autoCreatePR": True}), "target.autoCreatePR"),
        ("/v0/agents", v0_body(webhook={"url": "https://x.example/h", "secret": "short"}), "webhook.secret"),
        ("/v0/agents", v0_body(webhook={"url": "ftp://x.example/h"}), "webhook.url"),
        ("/v0/agents", v0_body(webhook={"url": "https://x.example/" + "a" * 2048}), "webhook.url"),
        ("/v0/agents", {"prompt": {"text": "x"}, "source": {}}, "source.repository"),
        ("/v0/agents", {"prompt": {"text": "x"}, "source": {"repository": "acme/w"}}, "source.repository"),
        ("/v1/agents", v1_body(webhook={"url": "https://x.example/h"}), "webhook"),
        ("/v1/agents", v1_body(autoCreatePr=True), "autoCreatePr"),
        ("/v1/agents", v1_body(model=None), "model"),
        ("/v1/agents", v1_body(agentId="bc-1"), "agentId"),
        ("/v1/agents", v1_body(name="x" * 101), "name"),
        ("/v1/agents", v1_body(mode="ask"), "mode"),
        ("/v1/agents", {"prompt": {"text": "x"}, "repos": [{"startingRef": "main"}]}, "repos.0.url"),
        ("/v1/agents", {"prompt": {"text": ""}}, "prompt.text"),
        ("/v1/agents", {"repos": []}, "prompt"),
        ("/v1/agents", {"prompt": {"text": "x", "images": [{"data": "aGk="}]}}, "prompt.images.0"),
        (
            "/v1/agents",
            {"prompt": {"text": "x", "images": [{**PNG, "mimeType": "image/x"}]}},
            "prompt.images.0.mimeType",
        ),
        ("/v1/agents", {"prompt": {"text": "x", "images": [{**PNG, "url": "https://x.example/i"}]}}, "prompt.images.0"),
        ("/v1/agents", {"prompt": {"text": "x", "images": [PNG] * 6}}, "prompt.images"),
        ("/v0/agents", {"prompt": {"text": "x", "images": [{"data": "aGk="}] * 6}, **REPO_V0}, "prompt.images"),
        ("/v0/agents", {"prompt": {"text": "x", "images": [{"data": ""}]}, **REPO_V0}, "prompt.images.0.data"),
        ("/v0/agents", v0_body(webhook={"url": "https://x.example/h", "secret": "s" * 257}), "webhook.secret"),
        ("/v1/agents", v1_body(repos=[{"url": REPOSITORY}] * 21), "repos"),
        ("/v1/agents", v1_body(agentId=AGENT_ID, envVars={"TOKEN": "x"}), "body"),
        ("/v1/agents", v1_body(env={"type": "cloud", "name": "big"}), "body"),
        ("/v1/agents", v1_body(envVars={"CURSOR_X": "x"}), "envVars.CURSOR_X.[key]"),
        ("/v1/agents", v1_body(envVars={"": "x"}), "envVars..[key]"),
        ("/v1/agents", v1_body(envVars={"N" * 256: "x"}), f"envVars.{'N' * 256}.[key]"),
        ("/v1/agents", v1_body(envVars={"TOKEN": "é" * 2049}), "envVars.TOKEN"),
        ("/v1/agents", v1_body(envVars={f"T{number}": "x" for number in range(51)}), "envVars"),
        ("/v1/agents", v1_body(mcpServers=[{"name": "m"}]), "mcpServers.0"),
        ("/v1/agents", v1_body(mcpServers=[{"name": "m", "command": "x", "headers": {}}]), "mcpServers.0"),
        ("/v1/agents", v1_body(mcpServers=[{"name": "m", "command": "x", "type": "sse"}]), "mcpServers.0"),
        ("/v1/agents", v1_body(mcpServers=[{"name": "m", "url": "https://me:x@m.example"}]), "mcpServers.0.url"),
        ("/v1/agents", v1_body(mcpServers=[{"name": "m", "command": "x"}] * 2), "mcpServers"),
        ("/v1/agents", v1_body(mcpServers=[{"name": f"m{n}", "command": "x"} for n in range(51)]), "mcpServers"),
        ("/v1/agents", v1_body(customSubagents=[SUBAGENT] * 2), "customSubagents"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "name": f"s{n}"} for n in range(21)]), "customSubagents"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "name": "explore"}]), "customSubagents.0.name"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "name": "n" * 101}]), "customSubagents.0.name"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "prompt": "p" * 8193}]), "customSubagents.0.prompt"),
        (
            "/v1/agents",
            v1_body(customSubagents=[{**SUBAGENT, "description": "d" * 1001}]),
            "customSubagents.0.description",
        ),
    ],
)
async def test_a_body_that_breaks_the_rules_is_refused_by_field(
    shared_client: httpx.AsyncClient, path: str, body: dict[str, Any], named: str
) -> None:
    message = refusal(await shared_client.post(path, json=body), 400, "validation_error")
    assert f"{named}:" in message


@BOTH
async def test_no_body_and_broken_json_are_told_apart(shared_client: httpx.AsyncClient, version: str) -> None:
    refusal(await shared_client.post(f"/{version}/agents"), 400, "missing_body")
    refusal(await shared_client.post(f"/{version}/agents", content=b"{"), 400, "validation_error")


async def test_a_deep_body_is_refused_like_any_other(shared_client: httpx.AsyncClient) -> None:
    for deep in (b"[" * 900 + b"]" * 900, b'{"prompt":' * 900 + b"1" + b"}" * 900, b"[" * 9000):
        refusal(await shared_client.post("/v1/agents", content=deep), 400, "validation_error")


async def test_every_documented_field_of_a_create_is_accepted(shared_client: httpx.AsyncClient) -> None:
    image = {"width": 10, "height": 10}
    old = v0_body(
        model="default",
        target={"autoCreatePr": True, "branchName": "feature/x", "skipReviewerRequest": True},
        webhook={"url": "http://127.0.0.1:9/hook"},
    )
    old["prompt"]["images"] = [{"data": "aGk=", "dimension": image}]
    new = v1_body(
        model={"id": "composer-2", "params": [{"id": "fast", "value": "true"}]},
        name="README",
        env={"type": "cloud"},
        workOnCurrentBranch=False,
        autoCreatePR=True,
        skipReviewerRequest=True,
        envVars={"TOKEN": "x"},
        mcpServers=[{"name": "a", "command": "npx"}, {"name": "b", "url": "https://mcp.example/sse"}],
        customSubagents=[{"name": "s", "description": "d", "prompt": "p", "model": "inherit"}],
        mode="plan",
    )
    new["prompt"]["images"] = [{"data": "aGk=", "mimeType": "image/png"}, {"url": "https://x.example/i.png"}]
    json_of(await shared_client.post("/v0/agents", json=old), 201)
    agent = json_of(await shared_client.post("/v1/agents", json=new), 201)["agent"]
    assert agent["name"] == "README"
    assert agent["skipReviewerRequest"] is True
    assert agent["customSubagents"][0]["name"] == "s"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v0/agents", v0_body(model="gpt-1"), "invalid_model"),
        ("/v1/agents", v1_body(model={"id": "gpt-1"}), "invalid_model"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "model": "gpt-1"}]), "invalid_model"),
        ("/v1/agents", v1_body(customSubagents=[{**SUBAGENT, "model": {"id": "gpt-1"}}]), "invalid_model"),
        ("/v0/agents", v0_body(target={"branchName": "a..b"}), "invalid_branch_name"),
    ],
)
async def test_a_model_or_branch_that_will_not_do_has_its_own_code(
    shared_client: httpx.AsyncClient, path: str, body: dict[str, Any], code: str
) -> None:
    refusal(await shared_client.post(path, json=body), 400, code)


async def test_the_models_on_offer_can_be_asked_for_in_both_versions(
    shared_client: httpx.AsyncClient,
) -> None:
    old = json_of(await shared_client.get("/v0/models"))["models"]
    new = json_of(await shared_client.get("/v1/models"))["items"]
    assert old[0] == "default"
    assert {model["id"] for model in new} == set(old[1:])
    aliased = next(model for model in new if model["aliases"])
    body = v1_body(model={"id": aliased["aliases"][0]})
    json_of(await shared_client.post("/v1/agents", json=body), 201)


async def test_a_path_that_does_not_exist_answers_like_the_live_router(
    shared_client: httpx.AsyncClient,
) -> None:
    for path in ("/v1/agent", "/v1/agents/"):
        response = await shared_client.get(path)
        assert (response.status_code, response.json()) == (404, {"message": f"Route GET:{path} not found"})


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=", "cursor=nonsense"])
@BOTH
async def test_a_bad_page_is_refused(shared_client: httpx.AsyncClient, version: str, query: str) -> None:
    refusal(await shared_client.get(f"/{version}/agents?{query}"), 400, "validation_error")


@pytest.mark.parametrize("query", ["includeArchived=maybe", "includeArchived=", "prUrl=acme/widgets", "prUrl="])
async def test_a_bad_filter_is_refused_by_name(shared_client: httpx.AsyncClient, query: str) -> None:
    message = refusal(await shared_client.get(f"/v1/agents?{query}"), 400, "validation_error")
    assert message.startswith(f"{query.partition('=')[0]}: ")


async def test_the_repository_of_a_pull_request_is_enough_on_v0(shared_client: httpx.AsyncClient) -> None:
    source = {"prUrl": f"{REPOSITORY}/pull/7"}
    response = await shared_client.post("/v0/agents", json={"prompt": {"text": "x"}, "source": source})
    assert json_of(response, 201)["source"]["repository"] == REPOSITORY
