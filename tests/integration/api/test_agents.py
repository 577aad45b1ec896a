"""Cloud agents over REST: what is known of one, what the provider says of it, and what can be asked of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.local.simulator import SimulatorSettings, create_app
from shared.domain import commands as cmd
from shared.domain.events import AgentStatus, OrchestrationSpec, TaskSpec
from tests.integration.api.system import TASK, Running, running_api
from tests.simulator.serving import FOREVER, QUICK, serving, v1_body
from tests.support.eventually import eventually

OTHERS = "5f3c9b7e-1111-4222-8333-444455556666"
UNKNOWN = "bc-00000000-0000-4000-8000-00000000dead"


@dataclass
class Provided:
    """An api with a provider behind it, and one task whose agent is at work there."""

    api: Running
    simulator: httpx.AsyncClient
    orchestration: dict[str, Any]
    agent_id: str
    run_id: str
    attempt_id: str

    async def ask(self, method: str, path: str = "", **request: Any) -> httpx.Response:
        return await self.api.http.request(method, f"/api/cloud-agents/{self.agent_id}{path}", **request)

    async def decide(self, command: cmd.AnyCommand) -> None:
        decided = await self.api.dispatcher.decide(self.orchestration["id"], command)
        await self.api.parts.reader.wait_visible("default", self.orchestration["id"], decided.sequence)

    async def end(self, status: AgentStatus = AgentStatus.FINISHED) -> None:
        """The agent is seen to have ended."""
        await self.decide(
            cmd.ObserveAgent(
                attempt_id=self.attempt_id,
                agent_id=self.agent_id,
                status=status,
                provider_status=status.value,
                source="poll",
                run_id=self.run_id,
            )
        )

    async def count_of(self, event: str) -> int:
        history = (await self.api.http.get(f"/api/orchestrations/{self.orchestration['id']}/events")).json()
        return [item["type"] for item in history["items"]].count(event)


@asynccontextmanager
async def provided(nats_url: str, database_url: str, prompt: str = FOREVER, **settings: Any) -> AsyncIterator[Provided]:
    with serving(create_app(SimulatorSettings(**QUICK))) as url:
        async with (
            running_api(nats_url, database_url, cursor_api_url=url, cursor_api_version="v1", **settings) as api,
            httpx.AsyncClient(base_url=url, auth=("key", ""), timeout=60) as simulator,
        ):
            made = (await simulator.post("/v1/agents", json=v1_body(prompt))).json()
            created = await api.create(tasks=[TASK], activate=True)
            [task] = created["tasks"]
            agent_id, run_id, attempt_id = made["agent"]["id"], made["run"]["id"], task["attempts"][0]["id"]
            p = Provided(api, simulator, created, agent_id, run_id, attempt_id)
            await p.decide(
                cmd.StartAttempt(attempt_id=attempt_id, agent_id=agent_id, api_version="v1", branch_name="cursor/a")
            )
            await p.decide(
                cmd.RecordAgent(
                    attempt_id=attempt_id,
                    agent_id=agent_id,
                    status=AgentStatus.RUNNING,
                    provider_status="RUNNING",
                    run_id=run_id,
                    url=made["agent"]["url"],
                )
            )
            yield p


def code_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["statusCode"] == status
    code: str = error["code"]
    return code


async def test_a_provider_that_fails_is_asked_a_few_times_and_then_left_alone(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url) as p:
        # It asks for the models by itself when it starts, and that is not to fail as well.
        await eventually(lambda: _models_come_from(p, "provider"))
        (await p.simulator.put("/_sim/faults", json={"read_error": True})).raise_for_status()
        for _ in range(2):  # of up to three tries each
            assert (await p.ask("GET", "/status")).status_code in (502, 503)
        answer = await p.ask("GET", "/status")
        assert code_of(answer, 503) == "SERVICE_UNAVAILABLE"
        assert 1 <= int(answer.headers["Retry-After"]) <= 38
        assert (await p.ask("GET")).status_code == 200, "what is known here is told all the same"
        assert (await p.simulator.get("/_sim/stats")).json()["faults"]["read_error"] == 5


async def _models_come_from(p: Provided, source: str) -> bool:
    return bool((await p.api.http.get("/api/models")).json()["source"] == source)


async def test_what_is_known_of_an_agent_and_what_the_provider_says_of_it(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url, "Add a README") as p:
        known = (await p.ask("GET")).json()
        assert known == {
            "id": p.agent_id,
            "run_id": p.run_id,
            "status": "RUNNING",
            "provider_status": "RUNNING",
            "url": f"https://cursor.com/agents/{p.agent_id}",
            "api_version": "v1",
            "model": None,
            "branch": None,
            "orchestration_id": p.orchestration["id"],
            "task_id": p.orchestration["tasks"][0]["id"],
            "attempt_id": p.attempt_id,
            "attempt_number": 1,
            "started_at": known["started_at"],
            "ended_at": None,
        }

        async def finished() -> dict[str, Any]:
            seen: dict[str, Any] = (await p.ask("GET", "/status")).json()
            assert seen["status"] == "FINISHED"
            return seen

        seen = await eventually(finished, timeout=30)
        assert (seen["id"], seen["run_id"], seen["provider_status"]) == (p.agent_id, p.run_id, "FINISHED")
        assert (seen["url"], seen["branch"] is None, bool(seen["summary"])) == (known["url"], False, True)
        assert (await p.ask("GET")).json() == known, "asking has recorded something"

        talk = (await p.ask("GET", "/conversation")).json()
        assert [(message["author"], message["text"]) for message in talk["messages"]] == [
            ("user", "Add a README"),
            ("assistant", seen["summary"]),
        ]
        await _its_files_are_listed_and_linked(p)


async def _its_files_are_listed_and_linked(p: Provided) -> None:
    listed = (await p.ask("GET", "/artifacts")).json()
    [artifact] = listed["items"]
    assert (listed["id"], artifact["updated_at"].endswith("Z")) == (p.agent_id, True)
    found = (await p.ask("GET", "/artifacts/link", params={"path": artifact["path"]})).json()
    assert (found["id"], found["path"], bool(found["expires_at"])) == (p.agent_id, artifact["path"], True)
    async with httpx.AsyncClient(timeout=60) as anybody:
        assert len((await anybody.get(found["url"])).content) == artifact["size_bytes"]
    assert code_of(await p.ask("GET", "/artifacts/link", params={"path": "artifacts/none"}), 404) == "NOT_FOUND"
    assert code_of(await p.ask("GET", "/artifacts/link"), 400) == "INVALID_REQUEST"


async def test_an_agent_is_stopped_once_and_not_after_its_end(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url) as p:
        first = await p.ask("POST", "/stop")
        assert (first.status_code, first.headers["Location"]) == (202, f"/api/cloud-agents/{p.agent_id}")
        assert first.json() == {"id": p.agent_id, "status": "RUNNING", "message": "Stopping"}
        again = await p.ask("POST", "/stop", json={})
        assert (again.status_code, again.json()["message"]) == (200, "Already stopping")
        assert await p.count_of("attempt.stop_requested") == 1
        await p.end(AgentStatus.STOPPED)
        assert code_of(await p.ask("POST", "/stop"), 409) == "ALREADY_COMPLETED"
        task = (await p.api.http.get(f"/api/orchestrations/{p.orchestration['id']}/tasks")).json()["items"][0]
        assert (task["status"], task["error_code"]) == ("FAILED", "AGENT_STOPPED")


async def test_a_follow_up_continues_the_agent_and_the_same_key_counts_once(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url) as p:
        more = {"json": {"prompt": " Add a test. "}, "headers": {"Idempotency-Key": "once"}}
        assert code_of(await p.ask("POST", "/followup", **more), 409) == "ALREADY_ACTIVE"
        await p.end()
        first = await p.ask("POST", "/followup", **more)
        assert first.status_code == 200, first.text
        assert first.json() == {"id": p.agent_id, "status": "FINISHED", "message": "Queued"}
        again = await p.ask("POST", "/followup", **more)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        other = {**more, "json": {"prompt": "Something else"}}
        assert code_of(await p.ask("POST", "/followup", **other), 422) == "IDEMPOTENCY_CONFLICT"
        assert await p.count_of("task.queued") == 2
        whole = (await p.api.http.get(f"/api/orchestrations/{p.orchestration['id']}")).json()
        assert whole["orchestration"]["status"] == "ACTIVE"
        [task] = whole["tasks"]
        assert (task["status"], task["attempts"][1]["continues_agent"]) == ("PENDING", True)
        assert code_of(await p.ask("POST", "/followup", json={"prompt": "More"}), 409) == "INVALID_STATE_TRANSITION"


async def test_an_agent_that_is_about_to_go_on_is_found_and_one_that_never_did_hides_nothing(
    nats_url: str, database_url: str
) -> None:
    async with provided(nats_url, database_url) as p:
        await p.end()
        await p.ask("POST", "/followup", json={"prompt": "More"})
        second = (await p.api.http.get(f"/api/orchestrations/{p.orchestration['id']}/tasks")).json()["items"][0][
            "attempts"
        ][1]["id"]
        await p.decide(
            cmd.StartAttempt(attempt_id=second, agent_id=p.agent_id, api_version="v1", branch_name="cursor/a")
        )
        assert (await p.ask("GET")).json()["attempt_id"] == second
        stopping = await p.ask("POST", "/stop")
        assert (stopping.status_code, stopping.json()["status"]) == (202, "CREATING")
        failure = {"code": "CURSOR_API_ERROR", "message": "refused"}
        await p.decide(cmd.RejectAttempt.model_validate({"attempt_id": second, "failure": failure}))
        known = (await p.ask("GET")).json()
        assert (known["attempt_id"], known["status"], known["run_id"]) == (p.attempt_id, "FINISHED", p.run_id)
        assert (await p.ask("POST", "/followup", json={"prompt": "More"})).status_code == 200


async def test_an_agent_at_rest_is_deleted_and_stays_known_here(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url) as p:
        assert code_of(await p.ask("DELETE"), 409) == "ALREADY_ACTIVE"
        await p.end()
        first = await p.ask("DELETE")
        assert (first.status_code, first.headers["Location"]) == (202, f"/api/cloud-agents/{p.agent_id}")
        assert first.json() == {"id": p.agent_id, "status": "FINISHED", "message": "Deleting"}
        again = await p.ask("DELETE")
        assert (again.status_code, again.json()["message"]) == (200, "Already asked for")
        assert await p.count_of("agent.delete_requested") == 1
        (await p.simulator.delete(f"/v1/agents/{p.agent_id}")).raise_for_status()
        for path in ("/status", "/conversation", "/artifacts", "/artifacts/link?path=x"):
            assert code_of(await p.ask("GET", path), 404) == "AGENT_NOT_FOUND"
        assert (await p.ask("GET")).status_code == 200
        assert code_of(await p.ask("POST", "/followup", json={"prompt": "More"}), 404) == "AGENT_NOT_FOUND"


async def test_what_is_wrong_with_a_request_is_said(nats_url: str, database_url: str) -> None:
    async with provided(nats_url, database_url) as p:
        await p.end()
        for body, field in (
            ({}, "prompt"),
            ({"prompt": ""}, "prompt"),
            ({"prompt": " \n"}, "prompt"),
            ({"prompt": "x" * 5001}, "prompt"),
            ({"prompt": 7}, "prompt"),
            ({"prompt": "a\0b"}, "prompt"),
            ({"prompt": "More", "images": []}, "images"),
            ([], "body"),
        ):
            response = await p.ask("POST", "/followup", json=body)
            assert code_of(response, 400) in ("INVALID_REQUEST", "MISSING_REQUIRED_FIELD")
            assert [entry["field"] for entry in response.json()["error"]["metadata"]["fields"]] == [field]
        assert code_of(await p.ask("POST", "/followup", content=b"x"), 415) == "UNSUPPORTED_MEDIA_TYPE"
        assert code_of(await p.ask("POST", "/stop", json={"force": True}), 400) == "INVALID_REQUEST"
        assert code_of(await p.ask("GET", "?x=1"), 400) == "INVALID_REQUEST"
        assert await p.count_of("task.queued") == 1


ROUTES = [
    ("GET", ""),
    ("GET", "/status"),
    ("GET", "/conversation"),
    ("GET", "/artifacts"),
    ("GET", "/artifacts/link?path=x"),
    ("POST", "/stop"),
    ("POST", "/followup"),
    ("DELETE", ""),
]


async def test_an_unknown_agent_and_one_of_another_team_are_not_found_on_any_route(
    nats_url: str, database_url: str
) -> None:
    async with provided(nats_url, database_url) as p:
        theirs = await agent_of_another_team(p)
        for method, path in ROUTES:
            body: dict[str, Any] = {"json": {"prompt": "More"}} if path == "/followup" else {}
            for agent_id in (theirs, UNKNOWN, "x" * 201, "%20", "bc-%00", "bc-1;drop", "..%2e", "bc-ü"):
                response = await p.api.http.request(method, f"/api/cloud-agents/{agent_id}{path}", **body)
                assert code_of(response, 404) == "AGENT_NOT_FOUND", agent_id
        state = (await p.api.dispatcher.handler.load("other", OTHERS)).state
        assert state is not None
        assert state.tasks["t"].attempts[0].stop_reason is None


async def agent_of_another_team(p: Provided) -> str:
    """The id of an agent at work for a team whose key we do not hold."""
    spec = OrchestrationSpec(repository="https://github.com/acme/shop")
    task = TaskSpec(task_id="t", title="Add validation", description="Validate every field.")
    create = cmd.CreateOrchestration(
        orchestration_id=OTHERS, team="other", created_by="bob", spec=spec, tasks=(task,), activate=True
    )
    decided = await p.api.dispatcher.decide(OTHERS, create, team="other")
    assert decided.state is not None
    attempt_id = decided.state.tasks["t"].attempts[0].attempt_id
    theirs = "bc-of-another-team"
    start = cmd.StartAttempt(attempt_id=attempt_id, agent_id=theirs, api_version="v1", branch_name="cursor/t")
    decided = await p.api.dispatcher.decide(OTHERS, start, team="other")
    await p.api.parts.reader.wait_visible("other", OTHERS, decided.sequence)
    assert await p.api.parts.reader.find_agent("other", theirs) is not None
    return theirs
