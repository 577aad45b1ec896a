"""A stand-in for GitHub's REST API on this machine: as much of it as is asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.observability.health import http_server

TOKEN = "github_pat_5f3a9c"
Answer = Callable[[], Awaitable[Response]]


@dataclass
class FakeGitHub:
    """`repositories` are refs by `owner/name`; `answers` by path come before them. `requests` is what was asked."""

    url: str = ""
    repositories: dict[str, set[str]] = field(default_factory=dict)
    archived: set[str] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]

    def forget(self) -> None:
        """Everything, for the next test."""
        for kept in (self.repositories, self.archived, self.answers, self.requests):
            kept.clear()

    def says(self, path: str, status: int, body: object = None, **headers: str) -> None:
        """At `path` there is this answer from now on."""

        async def answer() -> Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return JSONResponse({"message": "no"} if body is None else body, status, named)

        self.answers[path] = answer

    async def repository(self, request: Request) -> Response:
        return await self._answer(request, self._repository)

    async def commit(self, request: Request) -> Response:
        return await self._answer(request, self._commit)

    async def _answer(self, request: Request, usual: Callable[[Request], Response]) -> Response:
        self.requests.append(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"message": "Bad credentials"}, 401)
        answer = self.answers.get(request.url.path)
        return usual(request) if answer is None else await answer()

    def _repository(self, request: Request) -> Response:
        name = "{owner}/{name}".format(**request.path_params)
        if name not in self.repositories:
            return JSONResponse({"message": "Not Found"}, 404)
        return JSONResponse({"full_name": name, "archived": name in self.archived, "disabled": False})

    def _commit(self, request: Request) -> Response:
        refs = self.repositories["{owner}/{name}".format(**request.path_params)]
        if not refs:
            return JSONResponse({"message": "Git Repository is empty."}, 409)
        if request.path_params["ref"] not in refs:
            return JSONResponse({"message": "No commit found for SHA"}, 422)
        return PlainTextResponse("6dcb09b5b57875f334f61aebed695e2e4193db5e")


@asynccontextmanager
async def fake_github() -> AsyncIterator[FakeGitHub]:
    github = FakeGitHub()
    routes = [
        Route("/repos/{owner}/{name}", github.repository),
        Route("/repos/{owner}/{name}/commits/{ref:path}", github.commit),
    ]
    async with http_server(Starlette(routes=routes), "127.0.0.1", 0, stop_seconds=1) as port:
        github.url = f"http://127.0.0.1:{port}"
        yield github
