"""What each command asks of the API, and what it makes of the answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.api.docs import openapi_json
from tests.unit.cli.story import ID, all_completed
from tests.unit.cli.stub_api import Asked, Reply, StubApi, orchestrator, refused, stub_api

ORCHESTRATION = f"/api/orchestrations/{ID}"
VIEW = all_completed()[-1].view
ACTION = {"id": ID, "status": "ACTIVE", "message": "Done"}


@pytest.fixture(name="api", scope="module")
def _api() -> Iterator[StubApi]:
    with stub_api() as api:
        yield api


@pytest.fixture(autouse=True)
def _forget(api: StubApi) -> None:
    api.answers.clear()
    api.asked.clear()


@pytest.mark.parametrize(
    ("arguments", "line", "query", "body"),
    [
        (f"activate {ID}", f"POST {ORCHESTRATION}/activate", {}, None),
        (f"pause {ID}", f"POST {ORCHESTRATION}/pause", {}, {"mode": "stop"}),
        (f"pause {ID} --drain", f"POST {ORCHESTRATION}/pause", {}, {"mode": "drain"}),
        (f"resume {ID}", f"POST {ORCHESTRATION}/resume", {}, None),
        (f"cancel {ID}", f"POST {ORCHESTRATION}/cancel", {}, None),
        (f"delete {ID} --yes", f"DELETE {ORCHESTRATION}", {}, None),
        ("skip t1", "POST /api/tasks/t1/skip", {}, None),
        ("task skip t1", "POST /api/tasks/t1/skip", {}, None),
        ("retry t1", "POST /api/tasks/t1/retry", {}, None),
        ("task restart t1", "POST /api/tasks/t1/restart", {}, None),
        ("agent stop bc-1", "POST /api/cloud-agents/bc-1/stop", {}, None),
        ("agent delete bc-1", "DELETE /api/cloud-agents/bc-1", {}, None),
        ("agent followup bc-1 More.", "POST /api/cloud-agents/bc-1/followup", {}, {"prompt": "More."}),
        ("agent status bc-1", "GET /api/cloud-agents/bc-1/status", {}, None),
        ("agent conversation bc-1", "GET /api/cloud-agents/bc-1/conversation", {}, None),
        ("deliveries redeliver d1", "POST /api/webhook-deliveries/d1/redeliver", {}, None),
        ("deliveries show d1", "GET /api/webhook-deliveries/d1", {}, None),
        ("queue stats", "GET /api/queue/stats", {}, None),
        ("queue pause", "POST /api/queue/pause", {}, None),
        ("queue retry-failed", "POST /api/queue/retry-failed", {}, None),
        ("cleanup orphaned-agents", "POST /api/cloud-agents/sweep", {}, {"dryRun": False}),
        ("cleanup orphaned-agents --dry-run", "POST /api/cloud-agents/sweep", {}, {"dryRun": True}),
        ("keys revoke k1 --team a", "DELETE /api/keys/k1", {"team": ["a"]}, None),
        (f"stats {ID} --at 77", f"GET {ORCHESTRATION}/stats", {"at": ["77"]}, None),
        ("task show t1", "GET /api/tasks/t1", {}, None),
    ],
)
def test_each_command_is_one_request(api: StubApi, arguments: str, line: str, query: Any, body: Any) -> None:
    api.on(line, ACTION)
    assert orchestrator(api, *arguments.split(), "--json").json() == ACTION
    assert [(asked.line, asked.query, asked.body) for asked in api.asked] == [(line, query, body)]


@pytest.mark.parametrize("arguments", ["retry t1", "restart t1", "agent followup bc-1 More.", f"add-task {ID} A:\xa0b"])
def test_what_leads_to_more_work_has_an_idempotency_key_of_its_own_each_time(api: StubApi, arguments: str) -> None:
    words = [word.replace("\xa0", " ") for word in arguments.split(" ")]
    api.on(f"POST {ORCHESTRATION}/tasks", Reply({"id": "t9", "title": "A"}, 201))
    assert orchestrator(api, *words).code == orchestrator(api, *words).code == 0
    assert orchestrator(api, *words, "--idempotency-key", "mine").code == 0
    first, second, named = (asked.key for asked in api.asked)
    assert first
    assert second
    assert first != second
    assert named == "mine"


def test_a_list_passes_every_filter_on(api: StubApi) -> None:
    api.on("GET /api/orchestrations", {"items": []})
    options = "--status active --status PAUSED --repository a/b --tag x --tag y --created-by ann --q -draft --limit 5"
    times = ["--since", "2026-11-01T00:00:00Z", "--until", "2026-12-01T00:00:00Z", "--sort", "-updated_at"]
    assert orchestrator(api, "list", *options.split(), *times).code == 0
    assert api.last.query == {
        "status": ["ACTIVE", "PAUSED"],
        "repository": ["a/b"],
        "tag": ["x", "y"],
        "created_by": ["ann"],
        "since": ["2026-11-01T00:00:00Z"],
        "until": ["2026-12-01T00:00:00Z"],
        "q": ["-draft"],
        "sort": ["-updated_at"],
        "limit": ["5"],
    }


def item(number: int) -> dict[str, Any]:
    return {"id": f"o{number}", "status": "ACTIVE"}


def test_a_list_takes_as_many_pages_as_its_limit_needs_and_no_more(api: StubApi) -> None:
    pages = [{"items": [item(1)], "nextCursor": "a"}, {"items": [], "nextCursor": "b"}]
    api.on("GET /api/orchestrations", *pages, {"items": [item(2), item(3)], "nextCursor": "c"})
    listed = orchestrator(api, "list", "--limit", "3", "--json").json()
    assert listed == {"items": [item(1), item(2), item(3)], "nextCursor": "c"}
    assert [(a.query["limit"], a.query.get("cursor")) for a in api.asked] == [
        (["3"], None),
        (["2"], ["a"]),
        (["2"], ["b"]),
    ]


def test_a_list_of_all_ends_with_the_last_page(api: StubApi) -> None:
    api.on("GET /api/orchestrations", {"items": [item(1)], "nextCursor": "a"}, {"items": [item(2)]})
    assert orchestrator(api, "list", "--all", "--json").json() == {"items": [item(1), item(2)]}
    assert api.last.query == {"limit": ["100"], "cursor": ["a"]}


def test_the_past_is_shown_as_it_was_then(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}", Reply(VIEW, headers={"X-As-Of": "77,2026-11-01T12:00:30Z"}))
    ended = orchestrator(api, "show", ID, "--at", "77")
    assert api.last.query == {"at": ["77"]}
    assert "as of 77,2026-11-01T12:00:30Z" in ended.out


def test_a_patch_sends_only_what_is_named_and_clears_what_is_said_so(api: StubApi) -> None:
    api.on(f"PATCH {ORCHESTRATION}", VIEW["orchestration"])
    options = ["--name", "New", "--max-cost", "2.5", "--tag", "a", "--tag", "b", "--webhook-url", "https://x.io"]
    settings = ["--set", "maxParallel=3", "--set", "ref=develop", "--set", 'metadata={"a": 1}', "--clear", "model"]
    ended = orchestrator(api, "patch", ID, *options, *settings)
    assert api.last.body == {
        "name": "New",
        "maxCost": 2.5,
        "tags": ["a", "b"],
        "webhookUrl": "https://x.io",
        "maxParallel": 3,
        "ref": "develop",
        "metadata": {"a": 1},
        "model": None,
    }
    assert "acme/storefront @ main" in ended.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["patch", ID], "nothing to change"),
        (["patch", ID, "--set", "name"], "a field, =, and its value"),
        (["patch", ID, "--name", "a", "--set", "name=b"], "name is given twice"),
        (["add-task", ID], "give a task as 'TITLE: DESCRIPTION', or --file"),
        (["add-task", ID, "no colon"], "a title, a colon, a space, a description"),
        (["delete", ID], "--yes says that it is meant"),
        (["bulk", "-"], "in which repositories?"),
        (["task", "show", ".."], "'..' is not the id of a task"),
        (["agent", "show", ""], "'' is not the id of an agent"),
        (["keys", "create", "ci"], "--permission"),
    ],
)
def test_wrong_usage_asks_the_api_nothing_and_ends_with_2(api: StubApi, arguments: list[str], complaint: str) -> None:
    ended = orchestrator(api, *arguments, stdin="tasks: []\n")
    assert (ended.code, api.asked) == (2, [])
    assert complaint in ended.err.replace("\n", " ")


def test_a_task_is_named_by_its_number_or_title_within_its_orchestration(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}", VIEW)
    for name in (f"{ID}#2", f"{ID}#Test the rate limiter", f"{ID}#t2"):
        assert orchestrator(api, "retry", name).code == 0
        assert api.last.line == "POST /api/tasks/t2/retry"
    assert orchestrator(api, "agent", "show", f"{ID}#1").code == 0
    assert api.last.line == "GET /api/cloud-agents/bc-11000000-aaaa"
    ended = orchestrator(api, "skip", f"{ID}#4")
    assert ended.code == 2
    assert "there are: 1 Add a rate limiter, 2 Test the rate limiter, 3 Document rate limits" in ended.err


def test_a_task_is_added_from_words_and_options(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}", VIEW)
    api.on(f"POST {ORCHESTRATION}/tasks", Reply({"id": "t9", "title": "New"}, 201))
    options = ["--priority", "high", "--complexity", "simple", "--depends-on", "1", "--max-retries", "0"]
    after = ["--depends-on", "Document rate limits"]
    ended = orchestrator(api, "add-task", ID, "New: do: this", *options, *after)
    assert api.last.body == {
        "title": "New",
        "description": "do: this",
        "priority": "high",
        "complexity": "simple",
        "dependsOn": ["t1", "t3"],
        "maxRetries": 0,
    }
    assert ended.out == "added task t9 New\n"


def test_a_task_is_added_from_a_file_whose_fields_options_replace(api: StubApi, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("title: New\ndescription: what to do\npriority: low\n")
    api.on(f"POST {ORCHESTRATION}/tasks", Reply({"id": "t9", "title": "New"}, 201))
    assert orchestrator(api, "task", "add", ID, "--file", str(file), "--priority", "high").code == 0
    assert api.last.body == {"title": "New", "description": "what to do", "priority": "high"}


def test_a_task_is_changed(api: StubApi) -> None:
    api.on("PATCH /api/tasks/t1", VIEW["tasks"][0])
    ended = orchestrator(api, "task", "patch", "t1", "--title", "T", "--order-index", "0", "--clear", "dependsOn")
    assert api.last.body == {"title": "T", "orderIndex": 0, "dependsOn": None}
    assert "cursor/task-1" in ended.out


def bulk_answer(*statuses: int) -> dict[str, Any]:
    refusal = {"code": "INVALID_REPOSITORY", "message": "must be owner/repo"}
    whole: dict[int, Any] = {
        201: {"id": ID, "orchestration": VIEW["orchestration"]},
        202: {"id": ID, "outcome": "unknown"},
        400: {"error": refusal},
    }
    items = [{"repository": f"a/{n}", "status": status, **whole[status]} for n, status in enumerate(statuses)]
    counts = {"created": statuses.count(201), "failed": statuses.count(400), "undecided": statuses.count(202)}
    return {"items": items, **counts}


def test_a_bulk_create_puts_the_repositories_in_place_of_the_files_own(api: StubApi, tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("repository: old/one\nname: N\n")
    api.on("POST /api/orchestrations/bulk", bulk_answer(201, 400))
    ended = orchestrator(api, "bulk", str(file), "--repositories", "a/0, a/1")
    assert api.last.body == {"name": "N", "repositories": ["a/0", "a/1"]}
    assert api.last.key
    assert ended.code == 4
    assert "INVALID_REPOSITORY: must be owner/repo" in ended.out
    assert "1 created, 1 refused" in ended.out


@pytest.mark.parametrize(
    ("text", "repositories"),
    [
        ("# ours\na/b\n\nc/d  # too\n", ["a/b", "c/d"]),
        ("- a/b\n- repository: c/d\n  ref: dev\n", ["a/b", {"repository": "c/d", "ref": "dev"}]),
    ],
)
def test_repositories_come_from_a_file(api: StubApi, tmp_path: Path, text: str, repositories: list[Any]) -> None:
    names = tmp_path / "repositories"
    names.write_text(text)
    api.on("POST /api/orchestrations/bulk", bulk_answer(201, 201))
    assert orchestrator(api, "bulk", "-", "--repositories-file", str(names), stdin="name: N\n").code == 0
    assert api.last.body["repositories"] == repositories


def test_a_new_key_is_alone_on_stdout(api: StubApi) -> None:
    made = {"id": "k1", "key": "cop_secret", "team": "a", "expires_at": "2027-01-01T00:00:00Z"}
    api.on("POST /api/keys", Reply(made, 201))
    permissions = ["-p", "orchestrations:read", "-p", "admin"]
    ended = orchestrator(api, "keys", "create", "ci", *permissions, "--team", "a", "--expires", "2027-01-01T00:00:00Z")
    assert ended.out == "cop_secret\n"
    assert "cop_secret" not in ended.err
    assert "k1" in ended.err
    assert api.last.body == {
        "name": "ci",
        "permissions": ["orchestrations:read", "admin"],
        "team": "a",
        "expiresAt": "2027-01-01T00:00:00Z",
    }
    assert orchestrator(api, "keys", "create", "ci", *permissions, "--json").json()["key"] == "cop_secret"


def test_a_key_whose_answer_was_lost_is_said_to_be_revoked(api: StubApi) -> None:
    api.on("POST /api/keys", Reply(breaks=True), Reply({"id": "k1", "key": None}, 201))
    ended = orchestrator(api, "keys", "create", "ci", "-p", "admin")
    assert (ended.code, ended.out) == (3, "")
    assert "`orchestrator keys revoke k1` and make another" in ended.err
    assert api.asked[0].key == api.asked[1].key


def test_costs_are_summed_over_all_pages(api: StubApi) -> None:
    total = {"cost": 3.0, "attempts": 3, "failed_attempts": 1, "duration": 61000}
    first = {"group_by": "model", "total": total, "items": [{**total, "key": "o3"}], "nextCursor": "x"}
    api.on("GET /api/costs", first, {**first, "items": [{**total, "key": "auto"}], "nextCursor": None})
    ended = orchestrator(api, "costs", "--group-by", "model", "--since", "2026-11-01T00:00:00Z")
    assert [asked.query.get("cursor") for asked in api.asked] == [None, ["x"]]
    assert api.last.query["groupBy"] == ["model"]
    assert [line.split()[0] for line in ended.out.splitlines() if "$" in line] == ["o3", "auto", "total"]


def log_line(sequence: int, **fields: Any) -> dict[str, Any]:
    return {"sequence": sequence, "time": "2026-11-01T12:00:00Z", "level": "info", "message": f"m{sequence}", **fields}


def test_logs_read_page_after_page_behind_a_place(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}", VIEW)
    api.on(
        f"GET {ORCHESTRATION}/logs",
        {"items": [log_line(8), log_line(9, level="error")], "nextCursor": "9"},
        {"items": [log_line(12)]},
    )
    ended = orchestrator(api, "logs", ID, "--level", "info", "--task", "2", "--after", "7")
    assert [line.split()[2:] for line in ended.out.splitlines()] == [["INFO", "m8"], ["ERROR", "m9"], ["INFO", "m12"]]
    first, second = (asked.query for asked in api.asked if asked.path.endswith("/logs"))
    assert first == {"level": ["info"], "task": ["t2"], "after": ["7"], "limit": ["500"]}
    assert second == {"level": ["info"], "task": ["t2"], "cursor": ["9"], "limit": ["500"]}


def test_logs_for_programs_are_one_object_a_line(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}/logs", {"items": [log_line(8), log_line(9)]})
    lines = orchestrator(api, "logs", ID, "--json").out.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [8, 9]


def test_events_begin_behind_a_place(api: StubApi) -> None:
    api.on(f"GET {ORCHESTRATION}/events", {"items": [], "nextCursor": "9"}, {"items": []})
    assert orchestrator(api, "events", ID, "--after", "7").code == 0
    assert [asked.query for asked in api.asked] == [
        {"after": ["7"], "limit": ["500"]},
        {"cursor": ["9"], "limit": ["500"]},
    ]


def test_a_delete_waits_until_it_is_gone(api: StubApi) -> None:
    api.on(f"DELETE {ORCHESTRATION}", Reply({"id": ID, "status": "CANCELLING", "message": "Cancelling"}, 202))
    api.on(
        f"GET {ORCHESTRATION}", refused(503, "SERVICE_UNAVAILABLE", "x"), refused(404, "ORCHESTRATION_NOT_FOUND", "x")
    )
    assert "to be deleted once its agents have stopped" in orchestrator(api, "delete", ID, "--yes").out
    assert orchestrator(api, "delete", ID, "--yes", "--wait").out == f"{ID}: Deleted\n"


@pytest.mark.parametrize(("said", "code", "deletes"), [("y\n", 0, 1), ("n\n", 2, 0), ("\n", 2, 0), ("", 130, 0)])
def test_a_delete_asks_a_person_first(
    api: StubApi, monkeypatch: pytest.MonkeyPatch, said: str, code: int, deletes: int
) -> None:
    monkeypatch.setattr("cli.commands.lifecycle.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    ended = orchestrator(api, "delete", ID, stdin=said)
    assert (ended.code, len(api.asked)) == (code, deletes)
    assert f"Delete {ID}, and stop all that runs of it?" in ended.err


def test_a_refusal_names_code_message_and_field(api: StubApi) -> None:
    fields = [{"field": "maxCost", "message": "must be greater than 0"}]
    api.on(f"PATCH {ORCHESTRATION}", refused(400, "INVALID_REQUEST", "1 field is wrong", fields=fields))
    ended = orchestrator(api, "patch", ID, "--max-cost", "0", "--json")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.splitlines() == [
        "orchestrator: INVALID_REQUEST: 1 field is wrong",
        "  maxCost: must be greater than 0",
    ]


def test_the_same_request_is_sent_again_where_nobody_knows_what_became_of_it(api: StubApi) -> None:
    unknown = refused(503, "SERVICE_UNAVAILABLE", "no decision", outcome="unknown")
    unknown.headers["Retry-After"] = "0"
    created = Reply({**VIEW["orchestration"], "tasks": VIEW["tasks"], "status": "PENDING"}, 201)
    api.on("POST /api/orchestrations", unknown, Reply(breaks=True), unknown, created)
    ended = orchestrator(api, "create", "--repository", "a/b", "--task", "A: b")
    assert (ended.code, ended.out) == (0, f"created {ID} with 3 tasks; `orchestrator activate {ID}` starts it\n")
    assert ended.err.count("asking again with the same Idempotency-Key") == 1
    assert len(api.asked) == 4
    assert len({(asked.key, json.dumps(asked.body)) for asked in api.asked}) == 1


@pytest.mark.parametrize("outcome", [{}, {"outcome": "not sent"}])
def test_what_was_not_done_is_not_asked_for_again(api: StubApi, outcome: dict[str, str]) -> None:
    api.on("POST /api/orchestrations", refused(503, "SERVICE_UNAVAILABLE", "away", **outcome))
    assert orchestrator(api, "create", "--repository", "a/b").code == 4
    assert len(api.asked) == 1


def test_an_action_that_got_no_answer_is_not_sent_again_by_itself(api: StubApi) -> None:
    api.on(f"POST {ORCHESTRATION}/cancel", Reply(breaks=True))
    ended = orchestrator(api, "cancel", ID)
    assert (ended.code, len(api.asked)) == (3, 1)
    assert "what was asked for may still happen" in ended.err


def test_every_path_that_is_asked_for_is_one_of_the_api(api: StubApi) -> None:
    """Held against the document, so that a path that changes there is noticed here."""
    document = json.loads(openapi_json())
    known = {
        f"{method.upper()} {path}".replace("{orchestration_id}", ID)
        .replace("{task_id}", "t1")
        .replace("{agent_id}", "bc-1")
        .replace("{delivery_id}", "d1")
        .replace("{key_id}", "k1")
        for path, methods in document["paths"].items()
        for method in methods
    }
    api.on("POST /api/keys", Reply({"id": "k1", "key": "x"}, 201))
    for arguments in (
        f"activate {ID}|pause {ID}|resume {ID}|cancel {ID}|patch {ID} --name x|delete {ID} -y|stats {ID}|logs {ID}|"
        f"events {ID}|task add {ID} --file -|task show t1|task patch t1 --title x|retry t1|restart t1|skip t1|"
        "agent show bc-1|agent status bc-1|agent conversation bc-1|agent stop bc-1|agent followup bc-1 x|"
        "agent delete bc-1|agent artifacts bc-1|agent artifact bc-1 x|models|repositories|costs|"
        "deliveries list|deliveries show d1|deliveries redeliver d1|list|"
        "queue stats|queue pause|queue resume|queue retry-failed|queue clear-failed|"
        "cleanup orphaned-agents|"
        "keys create x -p admin|keys list|keys revoke k1|bulk - --repositories a/b"
    ).split("|"):
        orchestrator(api, *arguments.split(), "--json", stdin="title: x\n")
    asked = {one.line for one in api.asked}
    assert asked <= known, asked - known
    assert len(asked) == 40


@pytest.mark.parametrize("command", ["create", "run", "bulk"])
def test_the_repository_is_looked_at_first_where_that_is_asked_for_also_of_a_file(api: StubApi, command: str) -> None:
    api.on("POST /api/orchestrations", Reply({**VIEW["orchestration"], "tasks": []}, 201))
    api.on("POST /api/orchestrations/bulk", bulk_answer(201))
    file = "repository: a/b\nrepositories: [a/0]\ncheck_repository: false\n"
    for option in (["--check-repository"], []):
        assert orchestrator(api, command, "-", *option, stdin=file).code == 0
    bodies = [asked.body for asked in api.asked if asked.line.startswith("POST /api/orchestrations") and asked.body]
    assert [(body.get("checkRepository"), body.get("check_repository")) for body in bodies] == [
        (True, None),
        (None, False),
    ]


def test_repositories_are_listed_with_their_age(api: StubApi) -> None:
    listed = {"items": [{"repository": "https://github.com/acme/shop"}], "as_of": "2026-11-01T12:00:00Z", "age": 60}
    api.on("GET /api/repositories", listed)
    ended = orchestrator(api, "repositories")
    assert "https://github.com/acme/shop" in ended.out
    assert "as of 2026-11-01" in ended.out


def test_the_files_of_an_agent_are_listed_and_a_link_is_alone_on_stdout(api: StubApi) -> None:
    files = [{"path": "artifacts/shot.png", "size_bytes": 12345, "updated_at": "2026-11-01T12:00:00Z"}]
    api.on("GET /api/cloud-agents/bc-1/artifacts", {"id": "bc-1", "items": files})
    api.on("GET /api/cloud-agents/bc-1/artifacts/link", {"id": "bc-1", "url": "https://files.example/1?sig=x"})
    assert "artifacts/shot.png" in orchestrator(api, "agent", "artifacts", "bc-1").out
    ended = orchestrator(api, "agent", "artifact", "bc-1", "artifacts/shot.png")
    assert ended.out == "https://files.example/1?sig=x\n"
    assert api.last.query == {"path": ["artifacts/shot.png"]}


def test_nothing_is_asked_twice(api: StubApi) -> None:
    api.on(
        "GET /api/models", {"items": [{"id": "o3", "display_name": "O3", "aliases": ["gpt-4"]}], "source": "fallback"}
    )
    ended = orchestrator(api, "models")
    assert "gpt-4" in ended.out
    assert "the provider could not be asked" in ended.out
    assert api.asked == [Asked("GET", "/api/models", {}, None, None)]
