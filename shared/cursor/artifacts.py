"""The files that an agent left beside its work; both versions of the API tell them alike.

They are named and linked to, and never fetched from here: a link leads out of the provider's API, and whoever wants
the file follows it without our key.
"""

from shared.cursor import answers
from shared.cursor.answers import JsonObject, bad_response
from shared.cursor.http import CursorHttp
from shared.cursor.provider import Artifact, ArtifactLink
from shared.cursor.refusals import AGENT_NOT_FOUND, ARTIFACT_NOT_FOUND

_PATH_LIMIT = 1_024


async def list_artifacts(http: CursorHttp, agent_path: str) -> list[Artifact]:
    """The files of the agent at `agent_path`; one without a path cannot be asked for and is left out."""
    answer = await http.get(f"{agent_path}/artifacts", endpoint="artifacts", missing=AGENT_NOT_FOUND)
    # The specification of v0 has no artifacts; its answers have been seen under these names.
    listed = answers.children(answer, "items" if "items" in answer else "artifacts")
    return [
        Artifact(path, answers.optional_count(item, "sizeBytes"), answers.optional_time(item, "updatedAt"))
        for item in listed
        if (path := _path(item)) is not None
    ]


async def link_to_artifact(http: CursorHttp, agent_path: str, path: str) -> ArtifactLink:
    answer = await http.get(
        f"{agent_path}/artifacts/download", endpoint="artifacts", missing=ARTIFACT_NOT_FOUND, params={"path": path}
    )
    url = answers.optional_url(answer, "url", trusted=http.origin)
    if url is None:
        raise bad_response("url is missing or not a link that can be shown")
    return ArtifactLink(url, answers.optional_time(answer, "expiresAt"))


def _path(item: JsonObject) -> str | None:
    found = (item.get(key) for key in ("path", "absolutePath"))
    return next((path for path in found if isinstance(path, str) and _is_path(path)), None)


def _is_path(path: str) -> bool:
    return bool(path) and len(path) <= _PATH_LIMIT and path.isprintable()
