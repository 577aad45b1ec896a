"""Whatever is asked over REST, in whatever order: the answers and the states are those of a model.

`make machine` goes more and longer ways than `make check`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import uuid4

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from deploy.local.postgres import PostgresServer
from shared.command_handler import CommandHandler
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, Failure
from shared.jetstream.event_log import JetStreamEventLog
from shared.system import RandomIds
from tests.integration.api.machine_model import OVER, Job, Model, Refused, Try
from tests.integration.api.system import KEY, Running, running_api
from tests.support.servers import fresh_database, nats_server

EXAMPLES: Final = int(os.environ.get("MACHINE_EXAMPLES", "8"))
STEPS: Final = int(os.environ.get("MACHINE_STEPS", "30"))
SHRINK: Final = bool(os.environ.get("MACHINE_SHRINK"))

PHASES: Final = {"queued": "QUEUED", "started": "STARTED", "at work": "CREATED", "ended": "ENDED"}
NOWHERE: Final = "00000000-0000-4000-8000-000000000000"
ANY: Final = st.integers(0, 11)
"""Which one of those that there are, counted round."""


class SlowClock:
    """Goes on by a millisecond each time it is looked at, and by hours when it is told to."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC) - timedelta(days=1000)

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def go_on(self, span: timedelta) -> None:
        self._now += span


@dataclass(frozen=True)
class World:
    """A running api, asked from outside of its loop."""

    api: Running
    portal: BlockingPortal
    http: httpx.Client
    clock: SlowClock

    def decide(self, orchestration_id: str, command: cmd.AnyCommand) -> None:
        """What a service asks for; whoever reads afterwards sees it."""

        async def decided() -> None:
            done = await self.api.dispatcher.decide(orchestration_id, command)
            await self.api.parts.reader.wait_visible("default", orchestration_id, done.sequence)

        self.portal.call(decided)


@contextmanager
def world(postgres: PostgresServer) -> Iterator[World]:
    with (
        nats_server() as nats,
        fresh_database(postgres) as database_url,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_api(nats.url, database_url)) as api,
        httpx.Client(base_url=api.url, headers={"X-API-Key": KEY}, timeout=30, trust_env=False) as http,
    ):
        clock = SlowClock()
        api.dispatcher.handler = CommandHandler(JetStreamEventLog(api.runtime.nc), clock, RandomIds())
        yield World(api, portal, http, clock)


class RestMachine(RuleBasedStateMachine):
    """One orchestration and everything that users and services do to it."""

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
    @rule(what=st.sampled_from([None, "stop", "stop", "drain", "cancel"]))
    def interrupt_agents(self, what: str | None) -> None:
        self.cancel() if what == "cancel" else self.pause(what)

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

    # Services at work

    @precondition(lambda self: self.active())
    @rule(at=ANY, steps=st.integers(1, 3), cost=st.sampled_from([0.0, 0.25]))
    def an_attempt_goes_its_way(self, at: int, steps: int, cost: float) -> None:
        job, tried = self.attempt(at)
        for _ in range(steps):
            if tried.phase == "queued":
                self.start(job, tried)
            elif tried.phase == "started":
                self.create_agent(job, tried)
            elif tried.phase == "at work":
                self.observe(job, tried, AgentStatus.FINISHED, cost)

    @precondition(lambda self: self.active())
    @rule(at=ANY)
    def an_agent_is_at_work(self, at: int) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        self.create_agent(job, tried)
        self.observe(job, tried, AgentStatus.RUNNING, 0.0)

    @precondition(lambda self: self.active())
    @rule(at=ANY, status=st.sampled_from([AgentStatus.FAILED, AgentStatus.EXPIRED, AgentStatus.STOPPED]))
    def an_agent_ends_badly(self, at: int, status: AgentStatus) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        if tried.goes_on_with is not None:  # what is seen before it went on is how it had ended before
            self.create_agent(job, tried)
        self.observe(job, tried, status, 0.125)

    @precondition(lambda self: any(tried.stop for _, tried in self.active()))
    @rule(at=ANY, status=st.sampled_from([AgentStatus.STOPPED, AgentStatus.STOPPED, AgentStatus.FINISHED]))
    def an_agent_has_stopped(self, at: int, status: AgentStatus) -> None:
        stopping = [(job, tried) for job, tried in self.active() if tried.stop]
        job, tried = stopping[at % len(stopping)]
        self.create_agent(job, tried)
        self.observe(job, tried, status, 0.0)

    @precondition(lambda self: self.active())
    @rule(at=ANY, is_final=st.booleans())
    def a_create_is_refused(self, at: int, is_final: bool) -> None:
        job, tried = self.attempt(at)
        self.start(job, tried)
        failure = Failure(code="INVALID_MODEL" if is_final else "TIMEOUT", message="no", retryable=not is_final)
        self.serve(cmd.RejectAttempt(attempt_id=self.attempt_id(job, tried), failure=failure))
        self.model.reject(job, tried, is_final=is_final)

    @precondition(lambda self: self.active())
    @rule(at=ANY, reason=st.sampled_from(["slot", "rate_limit", "budget", "quota"]))
    def a_launch_has_to_wait(self, at: int, reason: Any) -> None:
        job, tried = self.attempt(at)
        self.serve(cmd.NoteWaiting(attempt_id=self.attempt_id(job, tried), reason=reason))
        self.model.wait(job, tried, reason)

    @precondition(lambda self: any(job.waits_for_retry or job.status == "PROCESSING" for job in self.model.jobs))
    @rule()
    def hours_pass(self) -> None:
        active = self.active()
        self.world.clock.go_on(timedelta(hours=3))
        self.serve(cmd.Tick())
        self.model.hours_pass()
        for job, tried in active:
            self.serve(cmd.ExpireAttempt(attempt_id=self.attempt_id(job, tried)))
            self.model.expire(job, tried)

    def start(self, job: Job, tried: Try) -> None:
        attempt_id = self.attempt_id(job, tried)
        agent = tried.goes_on_with or f"bc-{attempt_id}"
        command = cmd.StartAttempt(attempt_id=attempt_id, agent_id=agent, api_version="v1", branch_name="cursor/x")
        self.serve(command)
        self.model.start(job, tried, agent)

    def create_agent(self, job: Job, tried: Try) -> None:
        if tried.agent is None:
            return
        attempt_id = self.attempt_id(job, tried)
        command = cmd.RecordAgent(
            attempt_id=attempt_id,
            agent_id=tried.agent,
            status=AgentStatus.CREATING,
            provider_status="CREATING",
            run_id=f"run-{attempt_id}",
        )
        self.serve(command)
        self.model.create(job, tried)

    def observe(self, job: Job, tried: Try, status: AgentStatus, cost: float) -> None:
        if tried.agent is None:
            return
        command = cmd.ObserveAgent(
            attempt_id=self.attempt_id(job, tried),
            agent_id=tried.agent,
            status=status,
            provider_status=status.value,
            source="poll",
            cost=cost if status.is_terminal else None,
        )
        self.serve(command)
        if status is AgentStatus.FINISHED:
            self.model.finish(job, tried, cost)
        elif status.is_terminal:
            self.model.fail(job, tried, status.value, cost)

    def serve(self, command: cmd.AnyCommand) -> None:
        self.world.decide(self.id, command)

    # Users read

    @rule(what=st.integers(0, 3), at=st.integers(0, 100))
    def something_is_read(self, what: int, at: int) -> None:
        match what:
            case 0:
                self.what_was_shown_is_shown_again(at)
            case 1:
                self.lists_have_it_where_it_belongs()
            case 2 if not self.model.is_deleted:
                self.parts_are_as_the_whole()
                self.the_history_has_no_gap(limit=at // 2 + 3)
            case _:
                self.nothing_is_found_by_ids_of_nothing()

    def what_was_shown_is_shown_again(self, at: int) -> None:
        stamp, content = self.past[at % len(self.past)]
        response = self.send("GET", self.path, params={"at": stamp})
        if self.model.is_deleted:
            assert code_of(response, 404) == "ORCHESTRATION_NOT_FOUND"
        else:
            assert (response.content, response.headers["X-As-Of"]) == (content, stamp)

    def lists_have_it_where_it_belongs(self) -> None:
        for status in ("ACTIVE", self.model.status):
            listed = self.send("GET", "/api/orchestrations", params={"tag": self.tag, "status": status}).json()
            ids = [item["id"] for item in listed["items"]]
            belongs = status == self.model.status and not self.model.is_deleted
            assert ids == ([self.id] if belongs else [])

    def parts_are_as_the_whole(self) -> None:
        stamp, _ = self.past[-1]
        at = {"at": stamp}
        assert self.send("GET", f"{self.path}/tasks", params=at).json()["items"] == self.shown["tasks"]
        counts = self.send("GET", f"{self.path}/stats", params=at).json()
        assert {name: counts[name] for name in self.shown["statistics"]} == self.shown["statistics"]
        for task in self.shown["tasks"]:
            assert self.send("GET", f"/api/tasks/{task['id']}").json() == task
        for agent in self.agents():
            known = self.send("GET", f"/api/cloud-agents/{agent}").json()
            for job, tried in filter(None, [self.model.of_agent(agent)]):
                assert (known["task_id"], known["attempt_number"]) == (job.id, tried.number)

    def the_history_has_no_gap(self, limit: int) -> None:
        versions: list[int] = []
        after: dict[str, Any] = {}
        while True:
            page = self.send("GET", f"{self.path}/events", params={"limit": limit, **after}).json()
            versions += [item["version"] for item in page["items"]]
            if "nextCursor" not in page:
                break
            after = {"cursor": page["nextCursor"]}
        assert versions == list(range(1, self.shown["orchestration"]["version"] + 1))

    def nothing_is_found_by_ids_of_nothing(self) -> None:
        assert code_of(self.send("POST", f"/api/orchestrations/{NOWHERE}/activate"), 404) == "ORCHESTRATION_NOT_FOUND"
        assert code_of(self.send("POST", f"/api/tasks/{NOWHERE}/skip"), 404) == "TASK_NOT_FOUND"
        assert code_of(self.send("POST", f"/api/cloud-agents/bc-{NOWHERE}/stop"), 404) == "AGENT_NOT_FOUND"

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
        # A retry that has come due without anything coming of it is shown as it was until something else changes.
        waits_still = {"retry"} if job.was_due and job.is_free and self.model.status == "ACTIVE" else set()
        assert task["waiting_for"] in {self.model.waiting_for(job), *waits_still}

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
        return sorted({tried.agent for _, tried in self.model.tries() if tried.agent})

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


@pytest.mark.timeout(180 if EXAMPLES <= 10 else 7200)
def test_whatever_is_asked_is_answered_as_the_model_answers_it(postgres: PostgresServer) -> None:
    with world(postgres) as RestMachine.world:
        run_state_machine_as_test(
            RestMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=EXAMPLES <= 10,
                database=None,
                deadline=None,
                # To find a shorter way to a failure takes minutes; the way that led to it is told step by step.
                phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])],
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
