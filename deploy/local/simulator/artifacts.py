"""Files that an agent leaves beside its work, fetched from a signed address as from a storage service."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.simulator.agents import Agent, Status
from deploy.local.simulator.clock import Clock
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.store import AgentStore
from deploy.local.simulator.timestamps import timestamp

Json = dict[str, object]

# Where v0 says that the files are on the agent's machine; v1 tells paths from there on.
_ROOT = "/opt/cursor/"
_PLACE = "/_artifacts"
_EXPIRES = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, by its path below the root."""

    path: str
    content: bytes
    updated_at: datetime

    def view(self, version: str) -> Json:
        named: Json = {"path": self.path} if version == "v1" else {"absolutePath": f"{_ROOT}{self.path}"}
        return {**named, "sizeBytes": len(self.content), "updatedAt": timestamp(self.updated_at)}


def artifacts_of(agent: Agent) -> list[Artifact]:
    """One report for each run that has finished."""
    finished = [run for run in agent.runs if run.status is Status.FINISHED and run.result is not None]
    return [
        Artifact(f"artifacts/report-{place}.md", f"# {run.title}\n\n{run.result}\n".encode(), run.updated_at)
        for place, run in enumerate(finished, start=1)
    ]


class ArtifactLinks:
    """Makes addresses that are good for a quarter of an hour, and answers there.

    Like those of the storage service they carry their own right: who sends a key of the API along is refused.
    """

    def __init__(self, store: AgentStore, clock: Clock, seed: int) -> None:
        self._store = store
        self._clock = clock
        self._key = hashlib.sha256(f"artifacts:{seed}".encode()).digest()

    def route(self) -> Route:
        return Route(f"{_PLACE}/{{id}}/{{path:path}}", self.fetch, methods=["GET"])

    def link(self, request: Request, agent: Agent) -> Json:
        """The answer to a request for the file that its `path` names.

        Raises:
            ApiError: `validation_error` without a path, `artifact_not_found` for one that the agent did not leave.
        """
        wanted = request.query_params.get("path", "")
        if not wanted:
            raise ApiError("validation_error", "path: Field required")
        path = _found(agent, wanted.removeprefix(_ROOT)).path
        expires = self._clock.now() + _EXPIRES
        place = f"{_PLACE}/{agent.id}/{path}"
        query = urlencode({"Expires": timestamp(expires), "Signature": self._sign(place, timestamp(expires))})
        return {"url": f"{str(request.base_url).rstrip('/')}{quote(place)}?{query}", "expiresAt": timestamp(expires)}

    async def fetch(self, request: Request) -> Response:
        """The file, or the storage service's refusal, which is no JSON."""
        place, expires = request.url.path, request.query_params.get("Expires", "")
        if "authorization" in request.headers:
            return _refused(400, "InvalidArgument", "Only one auth mechanism allowed")
        signed = hmac.compare_digest(self._sign(place, expires), request.query_params.get("Signature", ""))
        if not signed or expires < timestamp(self._clock.now()):
            return _refused(403, "AccessDenied", "Request has expired" if signed else "Signature does not match")
        try:
            agent = self._store.get(request.path_params["id"])
            return Response(_found(agent, request.path_params["path"]).content, media_type="text/markdown")
        except ApiError:
            return _refused(404, "NoSuchKey", "The specified key does not exist.")

    def _sign(self, place: str, expires: str) -> str:
        return hmac.new(self._key, f"{place}?{expires}".encode(), hashlib.sha256).hexdigest()


def _found(agent: Agent, path: str) -> Artifact:
    artifact = next((one for one in artifacts_of(agent) if one.path == path), None)
    if artifact is None:
        raise ApiError("artifact_not_found")
    return artifact


def _refused(status: int, code: str, message: str) -> Response:
    return Response(
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", status, media_type="application/xml"
    )
