"""The files that agents leave: named and linked to, and never fetched with our key."""

from datetime import UTC, datetime

import httpx
import pytest

from shared.cursor.errors import ProviderError
from shared.cursor.factory import connect
from shared.cursor.provider import Artifact, ArtifactLink
from tests.unit.cursor.scripted import AGENT_ID, KEY, Script, Version, answer, error, provider

BOTH = pytest.mark.parametrize("version", ["v0", "v1"])
SHOT = {"path": "artifacts/shot.png", "sizeBytes": 12345, "updatedAt": "2026-11-05T10:30:00Z"}
UPDATED = datetime(2026, 11, 5, 10, 30, tzinfo=UTC)
SIGNED = "https://cloud-agent-artifacts.s3.us-east-1.amazonaws.com/x?X-Amz-Signature=abc"


@BOTH
@pytest.mark.parametrize("key", ["items", "artifacts"])
async def test_files_are_named_with_size_and_time(version: Version, key: str) -> None:
    script = Script(answer({key: [SHOT, {"absolutePath": "/opt/cursor/artifacts/log.txt"}]}))

    found = await provider(version, script).artifacts(AGENT_ID)

    assert script.calls == [f"GET /{version}/agents/{AGENT_ID}/artifacts"]
    assert found == [Artifact("artifacts/shot.png", 12345, UPDATED), Artifact("/opt/cursor/artifacts/log.txt")]


@pytest.mark.parametrize("path", [None, 7, "", "a\nb", "x" * 2000])
async def test_a_file_that_cannot_be_asked_for_is_left_out(path: object) -> None:
    script = Script(answer({"items": [{"path": path}, {**SHOT, "sizeBytes": -1, "updatedAt": "soon"}]}))

    assert await provider("v1", script).artifacts(AGENT_ID) == [Artifact("artifacts/shot.png")]


@BOTH
async def test_a_link_is_given_and_not_followed(version: Version) -> None:
    """Whoever signed it is somebody else than the provider, and must not see our key."""
    script = Script(answer({"url": SIGNED, "expiresAt": "2026-11-05T10:30:00Z"}))

    link = await provider(version, script).artifact_link(AGENT_ID, "artifacts/a b&c.png")

    assert link == ArtifactLink(SIGNED, UPDATED)
    [request] = script.requests
    assert request.url.path == f"/{version}/agents/{AGENT_ID}/artifacts/download"
    assert dict(request.url.params) == {"path": "artifacts/a b&c.png"}
    assert request.url.host == "api.cursor.example"


async def test_a_redirection_is_not_followed_either() -> None:
    script = Script(httpx.Response(302, headers={"Location": SIGNED}))

    with pytest.raises(ProviderError):
        await provider("v1", script).artifact_link(AGENT_ID, "artifacts/shot.png")

    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "url", [None, 7, "", "http://files.example/1", "javascript:alert(1)", "https://a:b@files.example"]
)
async def test_a_link_that_may_not_be_shown_is_a_bad_response(url: object) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider("v1", Script(answer({"url": url}))).artifact_link(AGENT_ID, "artifacts/shot.png")
    assert caught.value.code == "bad_response"


async def test_a_link_to_the_address_that_the_operator_named_needs_no_https() -> None:
    """As of a stand-in for the API on this machine."""
    link = "http://127.0.0.1:8090/_artifacts/1?Signature=x"
    script = Script(answer({"url": link}), answer({"url": "http://127.0.0.1:8091/1"}))
    client = connect("v1", "http://127.0.0.1:8090/api", KEY, transport=httpx.MockTransport(script))

    assert (await client.artifact_link(AGENT_ID, "artifacts/shot.png")).url == link
    with pytest.raises(ProviderError):
        await client.artifact_link(AGENT_ID, "artifacts/shot.png")


@BOTH
async def test_it_is_told_whether_agent_or_file_is_missing(version: Version) -> None:
    client = provider(version, Script(error(404, "x"), error(404, "x"), error(404, "agent_not_found")))
    codes = []
    for call in (
        client.artifacts(AGENT_ID),
        client.artifact_link(AGENT_ID, "artifacts/shot.png"),
        client.artifact_link(AGENT_ID, "artifacts/shot.png"),
    ):
        with pytest.raises(ProviderError) as caught:
            await call
        codes.append(caught.value.code)
    assert codes == ["agent_not_found", "artifact_not_found", "agent_not_found"]
