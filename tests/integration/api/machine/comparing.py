"""Asks the API and the model the same, and compares what both say."""

from collections.abc import Callable
from typing import Any, ClassVar, Final
from uuid import uuid4

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.integration.api.machine.following import Job, Refused, Try
from tests.integration.api.machine.model import Model
from tests.integration.api.machine.world import World

PHASES: Final = {"queued": "QUEUED", "started": "STARTED", "at work": "CREATED", "ended": "ENDED"}
ANY: Final = st.integers(0, 11)
"""Which one of those that there are, counted round."""


class Comparing(RuleBasedStateMachine):
    """One orchestration, in the API and in the model."""

    world: ClassVar[World]
    model: Model
    id: str

    def __init__(self) -> None:
        super().__init__()
        self.tag = uuid4().hex
        self.titles = 0
        self.shown: dict[str, Any] = {}
        self.was_refused = False
        self.past: list[tuple[str, bytes]] = []
        self.is_created = False

    # What must hold

    @invariant()
    def is_what_the_model_says(self) -> None:
        if not self.is_created:
            return
        response = self.send("GET", self.path)
        if self.model.is_deleted:
            assert code_of(response, 404) == "ORCHESTRATION_NOT_FOUND"
            assert code_of(self.send("GET", f"/api/tasks/{self.model.jobs[0].id}"), 404) == "TASK_NOT_FOUND"
            return
        assert response.status_code == 200, response.text
        self.past.append((response.headers["X-As-Of"], response.content))
        seen = steady(response.json())
        assert not self.was_refused or seen == self.shown, "a refusal has changed something"
        self.shown, self.was_refused = seen, False
        self.is_in_the_state_of_the_model(seen)

    def is_in_the_state_of_the_model(self, seen: dict[str, Any]) -> None:
        whole, model = seen["orchestration"], self.model
        shown = [whole[name] for name in ("status", "name", "ref", "max_cost", "max_parallel", "failure_policy")]
        policy = "fail_fast" if model.fail_fast else "continue"
        assert shown == [model.status, model.name, model.ref, model.most_cost, model.at_once, policy]
        assert [task["id"] for task in seen["tasks"]] == [job.id for job in model.jobs]
        for task, job in zip(seen["tasks"], model.jobs, strict=True):
            self.is_the_job(task, job)
        for status in ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"):
            assert seen["statistics"][f"{status.lower()}Tasks"] == len(self.in_status(status))

    def is_the_job(self, task: dict[str, Any], job: Job) -> None:
        names = ("title", "status", "order_index", "depends_on", "priority", "max_retries", "retry_count", "cost")
        expected = (job.title, job.status, job.order, job.needs, job.priority, job.retries_allowed, job.retries)
        assert tuple(task[name] for name in names) == (*expected, job.cost)
        attempts = [(made["phase"], made["ending"], made["stop_reason"]) for made in task["attempts"]]
        assert attempts == [(PHASES[tried.phase], tried.end, tried.stop) for tried in job.tries]
        assert task["waiting_for"] == self.model.waiting_for(job)

    # How it is done

    @property
    def path(self) -> str:
        return f"/api/orchestrations/{self.id}"

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self.world.http.request(method, path, **request)

    def acts(self, path: str, asking: Callable[[Model], bool], done: str, already: str, **request: Any) -> None:
        response = self.command(asking, "POST", self.path + path, **request)
        if response is not None:
            said = done if self.changed else already
            assert response.json() == {"id": self.id, "status": self.model.status, "message": said}

    def command(
        self,
        asking: Callable[[Model], bool],
        method: str,
        path: str,
        *,
        good: tuple[int, ...] = (200,),
        **request: Any,
    ) -> httpx.Response | None:
        """Ask the api what the model is asked. The answer, None if both refuse it; `changed` says what came of it."""
        trial = self.model.copy()
        response = self.send(method, path, **request)
        if refused := self.refusal(trial, asking, path):
            assert (response.status_code, code_of(response)) == (refused.status, refused.code), response.text
            self.was_refused = True
            return None
        assert response.status_code in good, response.text
        self.model = trial
        return response

    def refusal(self, trial: Model, asking: Callable[[Model], bool], path: str) -> Refused | None:
        if trial.is_deleted:
            return Refused(404, _missing(path))
        try:
            self.changed = asking(trial)
        except Refused as refused:
            return refused
        return None

    def job(self, at: int) -> Job:
        return self.model.jobs[at % len(self.model.jobs)]

    def in_status(self, status: str) -> list[Job]:
        return [job for job in self.model.jobs if job.status == status]

    def active(self) -> list[tuple[Job, Try]]:
        return [(job, job.current) for job in self.model.jobs if job.current]

    def attempt(self, at: int) -> tuple[Job, Try]:
        active = self.active()
        return active[at % len(active)]

    def attempt_id(self, job: Job, tried: Try) -> str:
        shown = next(task for task in self.shown["tasks"] if task["id"] == job.id)
        found: str = shown["attempts"][tried.number - 1]["id"]
        return found

    def agents(self) -> list[str]:
        # Not in the order of their ids, which are others each time: the same way has to lead to the same.
        return list(dict.fromkeys(tried.agent for _, tried in self.model.tries() if tried.agent))

    def agent(self, at: int) -> str:
        agents = self.agents()
        return agents[at % len(agents)]


def steady(detail: dict[str, Any]) -> dict[str, Any]:
    """Without what goes on by itself."""
    counted = {k: v for k, v in detail["statistics"].items() if k not in ("duration", "estimatedTimeRemaining")}
    return {**detail, "statistics": counted}


def code_of(response: httpx.Response, status: int | None = None) -> str:
    assert response.status_code == (status or response.status_code) >= 400, response.text
    code: str = response.json()["error"]["code"]
    return code


def _missing(path: str) -> str:
    return {"tasks": "TASK_NOT_FOUND", "cloud-agents": "AGENT_NOT_FOUND"}.get(
        path.split("/")[2], "ORCHESTRATION_NOT_FOUND"
    )
