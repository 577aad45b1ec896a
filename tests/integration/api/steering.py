"""Orchestrations brought into every state, and requests that are refused without any effect."""

from dataclasses import dataclass
from typing import Any, Final

import httpx

from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, OrchestrationStatus, TaskStatus
from shared.views import View
from tests.integration.api.system import Running
from tests.support.orchestrations import finish, observe, record, reject, start

ONE: Final = {"title": "One", "description": "Do the first of two things.", "maxRetries": 0}
TWO: Final = {"title": "Two", "description": "Do the second of two things.", "maxRetries": 0}
NOWHERE: Final = "00000000-0000-4000-8000-000000000000"

_TEAM: Final = "default"


@dataclass(frozen=True, slots=True)
class Case:
    """An orchestration of two tasks in sequence, and requests on it."""

    api: Running
    id: str
    one: str
    two: str

    @property
    def path(self) -> str:
        return f"/api/orchestrations/{self.id}"

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """`path` is below the orchestration's own; one that begins with /api stands alone."""
        return await self.api.http.request(method, path if path.startswith("/api") else self.path + path, **request)

    async def decide(self, *commands: cmd.AnyCommand) -> None:
        """What the services would ask for; whoever reads afterwards sees it."""
        for command in commands:
            decided = await self.api.dispatcher.decide(self.id, command)
            await self.api.parts.reader.wait_visible(_TEAM, self.id, decided.sequence)

    async def seen(self) -> View:
        """The orchestration and its tasks, as everybody sees them."""
        response = await self.api.http.get(self.path)
        assert response.status_code == 200, response.text
        return {name: response.json()[name] for name in ("orchestration", "tasks")}

    async def status(self) -> str:
        found: str = (await self.seen())["orchestration"]["status"]
        return found

    async def task(self, task_id: str) -> View:
        response = await self.api.http.get(f"/api/tasks/{task_id}")
        assert response.status_code == 200, response.text
        found: View = response.json()
        return found

    async def is_refused(self, method: str, path: str, status: int, code: str, **request: Any) -> dict[str, Any]:
        """The error; nothing has changed."""
        before = await self.seen()
        error = error_of(await self.ask(method, path, **request), status, code)
        assert await self.seen() == before
        return error

    async def names(self, method: str, path: str, body: Any, code: str = "INVALID_REQUEST") -> dict[str, str]:
        """What is said of each field of a body that is refused; nothing has changed."""
        error = await self.is_refused(method, path, 400, code, json=body)
        return {field["field"]: field["message"] for field in error["metadata"]["fields"]}


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert (error["code"], error["statusCode"]) == (code, status)
    return error


async def new(api: Running, **fields: Any) -> Case:
    """PENDING."""
    created = await api.create(tasks=[ONE, TWO], **fields)
    one, two = (task["id"] for task in created["tasks"])
    return Case(api, created["id"], one, two)


async def running(api: Running, **fields: Any) -> Case:
    """ACTIVE, with an agent at work on the first task."""
    case = await new(api, activate=True, **fields)
    await case.decide(start(case.one), record(case.one, status=AgentStatus.RUNNING))
    return case


async def in_state(api: Running, status: OrchestrationStatus) -> Case:
    """In any of its states."""
    match status:
        case OrchestrationStatus.PENDING:
            return await new(api)
        case OrchestrationStatus.ACTIVE | OrchestrationStatus.PAUSED | OrchestrationStatus.CANCELLING:
            case = await running(api)
            if status is OrchestrationStatus.PAUSED:
                await case.decide(cmd.PauseOrchestration())
            elif status is OrchestrationStatus.CANCELLING:
                await case.decide(cmd.CancelOrchestration())
        case OrchestrationStatus.CANCELLED:
            case = await new(api)
            await case.decide(cmd.CancelOrchestration())
        case OrchestrationStatus.COMPLETED:
            case = await running(api)
            await case.decide(finish(case.one), start(case.two), record(case.two), finish(case.two))
        case OrchestrationStatus.PARTIAL_COMPLETED:
            case = await running(api, failurePolicy="continue")
            await case.decide(finish(case.one), start(case.two), reject(case.two))
        case _:
            case = await new(api, activate=True)
            await case.decide(start(case.one), reject(case.one))
    assert await case.status() == status
    return case


async def with_task(api: Running, status: TaskStatus) -> Case:
    """The first task in any of its states, the orchestration not over where that can be."""
    case = await new(api, failurePolicy="continue", activate=True)
    match status:
        case TaskStatus.PENDING:
            pass
        case TaskStatus.PROCESSING:
            await case.decide(start(case.one), record(case.one))
        case TaskStatus.COMPLETED:
            await case.decide(start(case.one), record(case.one), finish(case.one))
        case TaskStatus.FAILED:
            await case.decide(start(case.one), reject(case.one))
        case TaskStatus.SKIPPED:
            await case.decide(cmd.SkipTask(task_id=case.one))
        case TaskStatus.CANCELLED:
            await case.decide(cmd.CancelOrchestration())
    assert (await case.task(case.one))["status"] == status
    return case


def stopped(task_id: str) -> cmd.ObserveAgent:
    """The agent of the first attempt is seen to have stopped."""
    return observe(task_id, AgentStatus.STOPPED)
