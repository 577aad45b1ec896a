"""What users ask for, in any order and in any state."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.integration.api.machine.comparing import ANY, Comparing, code_of
from tests.integration.api.machine.following import OVER, Job
from tests.integration.api.machine.model import Model


class Users(Comparing):
    """Create, steer, change; of the whole, of tasks and of agents."""

    # Creating

    @initialize(
        needs=st.lists(st.sets(st.integers(0, 3), max_size=2), min_size=1, max_size=4),
        parallel=st.sampled_from([None, 1, 2, 0]),
        fail_fast=st.booleans(),
        most_cost=st.sampled_from([None, None, None, 0.5]),
        retries=st.integers(0, 2),
        activate=st.sampled_from([True, True, False]),
        key=st.booleans(),
    )
    def create(
        self,
        needs: list[set[int]],
        parallel: int | None,
        fail_fast: bool,
        most_cost: float | None,
        retries: int,
        activate: bool,
        key: bool,
    ) -> None:
        earlier = [sorted(other for other in of if other < index) for index, of in enumerate(needs)]
        body: dict[str, Any] = {
            "repository": "acme/shop",
            "tags": [self.tag],
            "tasks": [self.new_task(retries, dependsOn=list(of)) for of in earlier],
            "executionMode": "sequential" if parallel is None else "parallel",
            **({"maxParallel": parallel} if parallel else {}),
            "failurePolicy": "fail_fast" if fail_fast else "continue",
            "maxCost": most_cost,
            "activate": activate,
        }
        headers = {"Idempotency-Key": uuid4().hex} if key else {}
        response = self.send("POST", "/api/orchestrations", json=body, headers=headers)
        assert response.status_code == 201, response.text
        created = response.json()
        self.id, ids = created["id"], [task["id"] for task in created["tasks"]]
        assert response.headers["Location"] == f"/api/orchestrations/{self.id}"
        titles = [task["title"] for task in body["tasks"]]
        jobs = [
            Job(task_id, title, index, [ids[other] for other in earlier[index]], retries_allowed=retries)
            for index, (task_id, title) in enumerate(zip(ids, titles, strict=True))
        ]
        self.model = Model(jobs, parallel is not None, parallel or None, fail_fast, most_cost)
        if activate:
            self.model.activate()
        self.is_created = True
        if key:
            self.is_created_once(response, body, headers)

    def is_created_once(self, first: httpx.Response, body: dict[str, Any], headers: dict[str, str]) -> None:
        again = self.send("POST", "/api/orchestrations", json=body, headers=headers)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        other = self.send("POST", "/api/orchestrations", json={**body, "name": "Other"}, headers=headers)
        assert code_of(other, 422) == "IDEMPOTENCY_CONFLICT"

    def new_task(self, retries: int, **fields: Any) -> dict[str, Any]:
        self.titles += 1
        title = f"Task {self.titles}"
        return {"title": title, "description": "Do it as it should be done.", "maxRetries": retries, **fields}

    # Users steer the whole

    @rule(what=st.sampled_from(["activate", "stop", "drain", "resume"]))
    def steer(self, what: str) -> None:
        match what:
            case "activate":
                self.activate()
            case "resume":
                self.resume()
            case _:
                self.pause(what)

    @precondition(lambda self: self.model.status in ("PENDING", "PAUSED"))
    @rule()
    def go_on(self) -> None:
        (self.resume if self.model.status == "PAUSED" else self.activate)()

    @precondition(lambda self: any(tried.may_have_agent for _, tried in self.active()))
    @rule(what=st.sampled_from([None, "stop", "stop", "drain", "cancel", "delete"]))
    def interrupt_agents(self, what: str | None) -> None:
        match what:
            case "cancel":
                self.cancel()
            case "delete" if len(self.past) > 8:  # or not much would be left to see
                self.delete()
            case "delete":
                return
            case _:
                self.pause(what)

    @precondition(lambda self: self.model.status in OVER and not self.model.is_deleted)
    @rule(at=ANY, what=st.sampled_from(["retry", "restart"]))
    def take_up_again(self, at: int, what: str) -> None:
        self.commands_task(self.job(at), what, False)

    def activate(self) -> None:
        self.acts("/activate", Model.activate, "Activated", "Already active")

    def pause(self, mode: str | None) -> None:
        body = {"mode": mode} if mode else None
        self.acts("/pause", lambda model: model.pause(mode or "stop"), "Paused", "Already paused", json=body)

    def resume(self) -> None:
        self.acts("/resume", Model.resume, "Resumed", "Already active")

    @precondition(lambda self: len(self.past) > 8)
    @rule(really=st.sampled_from([False, True]))
    def give_up(self, really: bool) -> None:
        if really:
            self.cancel()

    def cancel(self) -> None:
        response = self.command(Model.cancel, "POST", f"{self.path}/cancel")
        if response is not None:
            word = {"CANCELLED": "ancelled", "CANCELLING": "ancelling"}[self.model.status]
            said = f"C{word}" if self.changed else f"Already c{word}"
            assert response.json() == {"id": self.id, "status": self.model.status, "message": said}

    @precondition(lambda self: len(self.past) > 15)
    @rule(really=st.sampled_from([False, False, True]))
    def get_rid_of(self, really: bool) -> None:
        if really:
            self.delete()

    def delete(self) -> None:
        response = self.command(Model.delete, "DELETE", self.path, good=(200, 202))
        if response is not None:
            gone = self.model.is_deleted
            assert response.status_code == (200 if gone else 202)
            assert response.json()["status"] == ("DELETED" if gone else "CANCELLING")

    @rule(
        change=st.sampled_from(
            [
                ({"name": "New"}, {"name": "New"}),
                ({"maxCost": 0.25}, {"most_cost": 0.25}),
                ({"max_cost": None}, {"most_cost": None}),
                ({"failurePolicy": "continue"}, {"fail_fast": False}),
                ({"failurePolicy": "fail_fast"}, {"fail_fast": True}),
                ({"ref": "develop"}, {"ref": "develop"}),
                ({"maxParallel": 1}, {"at_once": 1}),
                ({"maxParallel": 3, "name": None}, {"at_once": 3, "name": None}),
            ]
        )
    )
    def change(self, change: tuple[dict[str, Any], dict[str, Any]]) -> None:
        body, values = change
        if "maxParallel" in body and not self.model.parallel:
            return
        response = self.command(lambda model: model.change(**values), "PATCH", self.path, json=body)
        assert response is None or response.json()["status"] == self.model.status

    # Users steer tasks

    @precondition(lambda self: len(self.model.jobs) < 8)
    @rule(need=st.one_of(st.none(), ANY), order=st.sampled_from([None, None, 0, 1]), repeated=st.booleans())
    def add(self, need: int | None, order: int | None, repeated: bool) -> None:
        needs = [] if need is None else [self.job(need).id]
        body = self.new_task(1, dependsOn=needs, **({} if order is None else {"orderIndex": order}))
        job = Job("new", body["title"], order or 0, needs, retries_allowed=1)
        headers = {"Idempotency-Key": uuid4().hex}

        def adding(model: Model) -> bool:
            return model.add(job, at_end=order is None)

        response = self.command(adding, "POST", f"{self.path}/tasks", good=(201,), json=body, headers=headers)
        if response is not None:
            job.id = response.json()["id"]
            assert response.headers["Location"] == f"/api/tasks/{job.id}"
            if repeated:
                again = self.send("POST", f"{self.path}/tasks", json=body, headers=headers)
                assert (again.status_code, again.content) == (201, response.content)

    @rule(
        at=ANY,
        change=st.sampled_from(
            [
                ({"title": "Another title"}, {"title": "Another title"}),
                ({"priority": "high"}, {"priority": "high"}),
                ({"maxRetries": 2}, {"retries_allowed": 2}),
                ({"max_retries": 0}, {"retries_allowed": 0}),
                ({"metadata": {"new": True}}, {"metadata": {"new": True}}),
                ({"orderIndex": 0}, {"order": 0}),
            ]
        ),
    )
    def change_task(self, at: int, change: tuple[dict[str, Any], dict[str, Any]]) -> None:
        body, values = change
        job = self.job(at)
        self.command(lambda model: model.change_task(job.id, **values), "PATCH", f"/api/tasks/{job.id}", json=body)

    @rule(at=ANY, other=ANY)
    def change_needs(self, at: int, other: int) -> None:
        job, needs = self.job(at), [self.job(other).id]
        changing: Callable[[Model], bool] = lambda model: model.change_task(job.id, needs=needs)  # noqa: E731
        self.command(changing, "PATCH", f"/api/tasks/{job.id}", json={"dependsOn": needs})

    @rule(at=ANY, what=st.sampled_from(["retry", "restart", "skip"]), repeated=st.booleans())
    def command_task(self, at: int, what: str, repeated: bool) -> None:
        self.commands_task(self.job(at), what, repeated)

    @precondition(lambda self: self.in_status("FAILED"))
    @rule(at=ANY, what=st.sampled_from(["retry", "restart", "skip"]))
    def take_up_what_failed(self, at: int, what: str) -> None:
        failed = self.in_status("FAILED")
        self.commands_task(failed[at % len(failed)], what, False)

    def commands_task(self, job: Job, what: str, repeated: bool) -> None:
        done = {"retry": "Retried", "restart": "Restarted", "skip": "Skipped"}[what]
        headers = {"Idempotency-Key": uuid4().hex} if what != "skip" else {}
        path = f"/api/tasks/{job.id}/{what}"
        asking = {"retry": Model.retry, "restart": Model.restart, "skip": Model.skip}[what]
        response = self.command(lambda model: asking(model, job.id), "POST", path, headers=headers)
        if response is not None:
            said = done if self.changed else "Already skipped"
            assert response.json() == {"id": job.id, "status": self.model.job(job.id).status, "message": said}
            if repeated and headers:
                assert self.send("POST", path, headers=headers).content == response.content

    # Users steer agents

    @precondition(lambda self: self.agents())
    @rule(at=ANY)
    def stop_agent(self, at: int) -> None:
        agent = self.agent(at)
        response = self.command(
            lambda model: model.stop_agent(agent), "POST", f"/api/cloud-agents/{agent}/stop", good=(200, 202)
        )
        self.agent_answered(response, "Stopping", "Already stopping")

    @precondition(lambda self: self.agents())
    @rule(at=ANY)
    def delete_agent(self, at: int) -> None:
        agent = self.agent(at)
        response = self.command(
            lambda model: model.delete_agent(agent), "DELETE", f"/api/cloud-agents/{agent}", good=(200, 202)
        )
        self.agent_answered(response, "Deleting", "Already asked for")

    @precondition(lambda self: self.agents())
    @rule(at=ANY)
    def follow_up(self, at: int) -> None:
        agent = self.agent(at)
        path, body = f"/api/cloud-agents/{agent}/followup", {"prompt": "Now the tests."}
        response = self.command(lambda model: model.follow_up(agent), "POST", path, json=body)
        assert response is None or response.json()["message"] == "Queued"

    def agent_answered(self, response: httpx.Response | None, done: str, already: str) -> None:
        if response is not None:
            said = response.status_code, response.json()["message"]
            assert said == ((202, done) if self.changed else (200, already))
