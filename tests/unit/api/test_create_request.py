"""Every rule for a request to create an orchestration: what is taken, and what is refused by which name."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from services.api.creation import read_create
from services.api.problems import InvalidRequestError
from services.api.schemas import CreateRequest, TaskRequest
from shared.domain.models import KNOWN_WITHOUT_PROVIDER

TASK = {"title": "Add validation", "description": "Validate every field of the form."}
ORDER: dict[str, Any] = {"repository": "acme/shop", "tasks": [TASK]}


def read(body: Any, *, allow_private: bool = False) -> CreateRequest:
    return read_create(body, KNOWN_WITHOUT_PROVIDER, allow_private_webhooks=allow_private)


def with_field(name: str, value: Any) -> dict[str, Any]:
    """An order with one more field; `task.x` puts it into the task."""
    body = copy.deepcopy(ORDER)
    scope, _, field = name.rpartition(".")
    (body["tasks"][0] if scope == "task" else body)[field] = value
    return body


def refused(body: Any, **options: Any) -> tuple[str, dict[str, str]]:
    """The code, and the message for each field."""
    with pytest.raises(InvalidRequestError) as caught:
        read(body, **options)
    return caught.value.code, {problem.field: problem.message for problem in caught.value.problems}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


TAKEN: list[tuple[str, Any, str, Any]] = [
    ("repository", "acme/shop", "repository", "https://github.com/acme/shop"),
    ("repository", "https://github.com/acme/shop", "repository", "https://github.com/acme/shop"),
    ("repository", "https://github.com/acme/shop.git", "repository", "https://github.com/acme/shop"),
    ("repository", "acme/shop.git", "repository", "https://github.com/acme/shop"),
    ("repository", "HTTPS://GitHub.com/Acme/Shop", "repository", "https://github.com/Acme/Shop"),
    ("repository", "a-b-9/.dots._and-dashes", "repository", "https://github.com/a-b-9/.dots._and-dashes"),
    ("repository", "octo_corp/shop", "repository", "https://github.com/octo_corp/shop"),
    ("repository", f"{'a' * 39}/{'b' * 100}", "repository", f"https://github.com/{'a' * 39}/{'b' * 100}"),
    ("ref", "main", "ref", "main"),
    ("ref", "feature/über-cool_1.2", "ref", "feature/über-cool_1.2"),
    ("ref", "0123456789abcdef0123456789abcdef01234567", "ref", "0123456789abcdef0123456789abcdef01234567"),
    ("ref", "a" * 255, "ref", "a" * 255),
    ("name", "Clean-up", "name", "Clean-up"),
    ("name", None, "name", None),
    ("name", "n" * 200, "name", "n" * 200),
    ("description", "d" * 5000, "description", "d" * 5000),
    ("tags", ["a", "t" * 64], "tags", ["a", "t" * 64]),
    ("tags", ["x"] * 20, "tags", ["x"] * 20),
    ("metadata", {"a": {"b": [1, 2.5, None, True, "x"]}}, "metadata", {"a": {"b": [1, 2.5, None, True, "x"]}}),
    ("metadata", {"a": "x" * (16 * 1024 - 8)}, "metadata", {"a": "x" * (16 * 1024 - 8)}),
    ("model", "o3", "model", "o3"),
    ("model", None, "model", None),
    ("model", "by-complexity", "model", "by-complexity"),
    ("strictModel", True, "strict_model", True),
    ("priority", "speed", "priority", "speed"),
    ("priority", "quality", "priority", "quality"),
    ("autoCreatePr", False, "auto_create_pr", False),
    ("webhookUrl", "https://example.com/hook?x=1", "webhook_url", "https://example.com/hook?x=1"),
    ("webhookUrl", "https://example.com:8443/hook", "webhook_url", "https://example.com:8443/hook"),
    ("webhookUrl", None, "webhook_url", None),
    ("executionMode", "parallel", "execution_mode", "parallel"),
    ("failurePolicy", "continue", "failure_policy", "continue"),
    ("base", "previous", "base", "previous"),
    ("deliverable", "pr", "deliverable", "pr"),
    ("maxCost", 0.01, "max_cost", 0.01),
    ("maxCost", 5, "max_cost", 5),
    ("startAt", "2030-01-31T09:00:00Z", "start_at", datetime(2030, 1, 31, 9, tzinfo=UTC)),
    ("startAt", "2030-01-31T09:00:00+02:00", "start_at", datetime(2030, 1, 31, 7, tzinfo=UTC)),
    ("activate", True, "activate", True),
    ("checkRepository", True, "check_repository", True),
    ("task.title", "t", "title", "t"),
    ("task.title", "t" * 200, "title", "t" * 200),
    ("task.title", "  around  ", "title", "around"),
    ("task.description", "ten chars!", "description", "ten chars!"),
    ("task.description", "d" * 5000, "description", "d" * 5000),
    ("task.priority", "high", "priority", "high"),
    ("task.complexity", "complex", "complexity", "complex"),
    ("task.maxRetries", 0, "max_retries", 0),
    ("task.maxRetries", 10, "max_retries", 10),
    ("task.timeoutMinutes", 1, "timeout_minutes", 1),
    ("task.timeoutMinutes", 1440, "timeout_minutes", 1440),
    ("task.orderIndex", 7, "order_index", 7),
    ("task.model", "gpt-4", "model", "gpt-4"),
    ("task.metadata", {"k": 1}, "metadata", {"k": 1}),
]


@pytest.mark.parametrize(("name", "given", "attribute", "stored"), TAKEN)
def test_takes(name: str, given: Any, attribute: str, stored: Any) -> None:
    request = read(with_field(name, given))
    holder = request.tasks[0] if name.startswith("task.") else request
    assert getattr(holder, attribute) == stored


REFUSED: list[tuple[str, Any, str, str]] = [
    # field, value, the name that is told, the code
    ("repository", "", "repository", "INVALID_REPOSITORY"),
    ("repository", "shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/", "repository", "INVALID_REPOSITORY"),
    ("repository", "/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/shop/tree/main", "repository", "INVALID_REPOSITORY"),
    ("repository", "http://github.com/acme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "https://gitlab.com/acme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "https://github.com.evil.org/acme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "https://user:pw@github.com/acme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "git@github.com:acme/shop.git", "repository", "INVALID_REPOSITORY"),
    ("repository", "-acme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme-/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "ac--me/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", "ac.me/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", f"{'a' * 40}/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", f"acme/{'b' * 101}", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/.", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/..", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/...git", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/.git", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/shop.git.git", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/sh op", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/shop?x", "repository", "INVALID_REPOSITORY"),
    ("repository", "acme/shop\n", "repository", "INVALID_REPOSITORY"),
    ("repository", "açme/shop", "repository", "INVALID_REPOSITORY"),
    ("repository", 7, "repository", "INVALID_REPOSITORY"),
    ("repository", None, "repository", "INVALID_REPOSITORY"),
    *[
        ("ref", ref, "ref", "INVALID_REQUEST")
        for ref in (
            "", "/main", "main/", "a//b", "a..b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a b", "a~b", "a^b",
            "a:b", "a?b", "a*b", "a[b", "a\\b", "@", "a@{b", "-a", "a\x7fb", "a\tb", "a" * 256, "é" * 128, 1, None,
        )
    ],
    ("name", "n" * 201, "name", "INVALID_REQUEST"),
    ("name", 5, "name", "INVALID_REQUEST"),
    ("name", "a\0b", "name", "INVALID_REQUEST"),
    ("description", "d" * 5001, "description", "INVALID_REQUEST"),
    ("tags", ["x"] * 21, "tags", "INVALID_REQUEST"),
    ("tags", "x", "tags", "INVALID_REQUEST"),
    ("tags", ["ok", ""], "tags[1]", "INVALID_REQUEST"),
    ("tags", ["ok", "t" * 65], "tags[1]", "INVALID_REQUEST"),
    ("tags", ["ok", " " + "t" * 64], "tags[1]", "INVALID_REQUEST"),
    ("tags", [1], "tags[0]", "INVALID_REQUEST"),
    ("metadata", [], "metadata", "INVALID_REQUEST"),
    ("metadata", "x", "metadata", "INVALID_REQUEST"),
    ("metadata", {"a": "x" * 16 * 1024}, "metadata", "INVALID_REQUEST"),
    ("metadata", {"a": {"b": ["\0"]}}, "metadata.a.b[0]", "INVALID_REQUEST"),
    ("metadata", {"a\0": 1}, "metadata", "INVALID_REQUEST"),
    ("metadata", {"a": deep(40)}, "metadata.a[0]", "INVALID_REQUEST"),
    ("model", "", "model", "INVALID_REQUEST"),
    ("model", "m" * 101, "model", "INVALID_REQUEST"),
    ("model", 4, "model", "INVALID_REQUEST"),
    ("strictModel", "true", "strictModel", "INVALID_REQUEST"),
    ("strictModel", 1, "strictModel", "INVALID_REQUEST"),
    ("priority", "high", "priority", "INVALID_REQUEST"),
    ("autoCreatePr", "yes", "autoCreatePr", "INVALID_REQUEST"),
    ("webhookUrl", "http://example.com/hook", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "ftp://example.com/hook", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "example.com", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://me:pw@example.com/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://me@example.com/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://example.com:99999/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://[::1/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://exa mple.com/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://example.com/\r\nX: y", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://localhost/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://127.0.0.1/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://10.1.2.3/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://169.254.169.254/latest", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://[::1]/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://[64:ff9b::7f00:1]/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://2130706433/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://0x7f.1/", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://example.com:9000/hook", "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", "https://example.com/" + "a" * 2048, "webhookUrl", "INVALID_REQUEST"),
    ("webhookUrl", 1, "webhookUrl", "INVALID_REQUEST"),
    ("executionMode", "serial", "executionMode", "INVALID_REQUEST"),
    ("maxParallel", 2, "maxParallel", "INVALID_REQUEST"),
    ("failurePolicy", "stop", "failurePolicy", "INVALID_REQUEST"),
    ("base", "main", "base", "INVALID_REQUEST"),
    ("deliverable", "commit", "deliverable", "INVALID_REQUEST"),
    ("maxCost", 0, "maxCost", "INVALID_REQUEST"),
    ("maxCost", -1.5, "maxCost", "INVALID_REQUEST"),
    ("maxCost", "5", "maxCost", "INVALID_REQUEST"),
    ("maxCost", True, "maxCost", "INVALID_REQUEST"),
    ("maxCost", float("nan"), "maxCost", "INVALID_REQUEST"),
    ("maxCost", float("inf"), "maxCost", "INVALID_REQUEST"),
    ("startAt", "2030-01-31T09:00:00", "startAt", "INVALID_REQUEST"),
    ("startAt", "2030-01-31", "startAt", "INVALID_REQUEST"),
    ("startAt", "tomorrow", "startAt", "INVALID_REQUEST"),
    ("startAt", "0001-01-01T00:00:00+14:00", "startAt", "INVALID_REQUEST"),
    ("startAt", 1900000000, "startAt", "INVALID_REQUEST"),
    ("schedule", {"cron": "* * * *"}, "schedule.cron", "INVALID_REQUEST"),
    ("schedule", {"cron": "60 * * * *"}, "schedule.cron", "INVALID_REQUEST"),
    ("schedule", {"cron": "*/0 * * * *"}, "schedule.cron", "INVALID_REQUEST"),
    ("schedule", {"cron": "5-1 * * * *"}, "schedule.cron", "INVALID_REQUEST"),
    ("schedule", {"cron": "0 9 * * funday"}, "schedule.cron", "INVALID_REQUEST"),
    ("schedule", {"cron": "0 9 * * *", "timezone": "Mars/Olympus"}, "schedule.timezone", "INVALID_REQUEST"),
    ("schedule", {"cron": "0 9 * * *", "timezone": "America"}, "schedule.timezone", "INVALID_REQUEST"),
    ("schedule", {"timezone": "UTC"}, "schedule.cron", "MISSING_REQUIRED_FIELD"),
    ("schedule", "0 9 * * *", "schedule", "INVALID_REQUEST"),
    ("activate", "true", "activate", "INVALID_REQUEST"),
    ("checkRepository", "yes", "checkRepository", "INVALID_REQUEST"),
    ("tasks", [], "tasks", "INVALID_REQUEST"),
    ("tasks", [TASK] * 51, "tasks", "INVALID_REQUEST"),
    ("tasks", {}, "tasks", "INVALID_REQUEST"),
    ("tasks", None, "tasks", "INVALID_REQUEST"),
    ("tasks", ["do it"], "tasks[0]", "INVALID_TASK"),
    ("task.title", "", "tasks[0].title", "INVALID_TASK"),
    ("task.title", "   ", "tasks[0].title", "INVALID_TASK"),
    ("task.title", "t" * 201, "tasks[0].title", "INVALID_TASK"),
    ("task.title", 3, "tasks[0].title", "INVALID_TASK"),
    ("task.title", "a\0b", "tasks[0].title", "INVALID_TASK"),
    ("task.description", "too short", "tasks[0].description", "INVALID_TASK"),
    ("task.description", " " * 20, "tasks[0].description", "INVALID_TASK"),
    ("task.description", "d" * 5001, "tasks[0].description", "INVALID_TASK"),
    ("task.priority", "urgent", "tasks[0].priority", "INVALID_TASK"),
    ("task.complexity", "hard", "tasks[0].complexity", "INVALID_TASK"),
    ("task.maxRetries", -1, "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.maxRetries", 11, "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.maxRetries", "3", "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.maxRetries", 3.0, "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.maxRetries", True, "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.maxRetries", None, "tasks[0].maxRetries", "INVALID_TASK"),
    ("task.timeoutMinutes", 0, "tasks[0].timeoutMinutes", "INVALID_TASK"),
    ("task.timeoutMinutes", 1441, "tasks[0].timeoutMinutes", "INVALID_TASK"),
    ("task.orderIndex", -1, "tasks[0].orderIndex", "INVALID_TASK"),
    ("task.orderIndex", 2**40, "tasks[0].orderIndex", "INVALID_TASK"),
    ("task.model", "", "tasks[0].model", "INVALID_TASK"),
    ("task.metadata", {"a": "x" * 16 * 1024}, "tasks[0].metadata", "INVALID_TASK"),
    ("task.dependsOn", "Add validation", "tasks[0].dependsOn", "INVALID_TASK"),
    ("task.dependsOn", ["nobody"], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [0], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", ["Add validation"], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [1], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [-1], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [True], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [None], "tasks[0].dependsOn[0]", "INVALID_TASK"),
    ("task.dependsOn", [1.0], "tasks[0].dependsOn[0]", "INVALID_TASK"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "told", "code"), REFUSED)
def test_refuses_by_name(name: str, given: Any, told: str, code: str) -> None:
    found, problems = refused(with_field(name, given))
    assert set(problems) == {told}
    assert found == code
    assert problems[told]


def _required_and_optional() -> list[tuple[str, str, str]]:
    names = []
    for scope, model in (("", CreateRequest), ("task.", TaskRequest)):
        names += [(scope, name, field.alias or name) for name, field in model.model_fields.items()]
    return names


@pytest.mark.parametrize(("scope", "snake", "camel"), _required_and_optional())
def test_every_field_has_two_names_and_takes_one_of_them(scope: str, snake: str, camel: str) -> None:
    values = {name: value for name, value, _, _ in TAKEN}
    values |= {"tasks": [TASK], "task.dependsOn": [], "schedule": None, "maxParallel": None, "startAt": None}
    value = values[scope + camel]
    read(with_field(scope + snake, value))
    read(with_field(scope + camel, value))
    if snake != camel:
        twice = with_field(scope + snake, value)
        (twice["tasks"][0] if scope else twice)[camel] = value
        _, problems = refused(twice)
        assert list(problems) == [f"tasks[0].{snake}" if scope else snake]
        assert camel in next(iter(problems.values()))


def test_a_problem_is_told_in_the_spelling_that_the_request_used() -> None:
    assert set(refused(with_field("max_cost", 0))[1]) == {"max_cost"}
    assert set(refused(with_field("task.max_retries", 99))[1]) == {"tasks[0].max_retries"}
    assert set(refused(with_field("task.depends_on", ["nobody"]))[1]) == {"tasks[0].depends_on[0]"}
    assert set(refused(with_field("max_parallel", 3))[1]) == {"max_parallel"}


@pytest.mark.parametrize("name", ["colour", "task.colour", "Repository", "tasks_", "x" * 500])
def test_unknown_fields_are_refused_by_name(name: str) -> None:
    _, problems = refused(with_field(name, 1))
    assert list(problems) == [name.replace("task.", "tasks[0].")[:200]]
    assert "not a known field" in next(iter(problems.values()))


@pytest.mark.parametrize(
    "name",
    ["id", "status", "team", "createdBy", "created_at", "version", "task.id", "task.status", "task.cloudAgentId"],
)
def test_what_the_server_sets_cannot_be_given(name: str) -> None:
    _, problems = refused(with_field(name, "x"))
    assert list(problems) == [name.replace("task.", "tasks[0].")]
    assert "set by the server" in next(iter(problems.values()))


@pytest.mark.parametrize(("field", "told"), [("repository", "repository"), ("tasks", "tasks")])
def test_what_is_missing_has_a_code_of_its_own(field: str, told: str) -> None:
    body = {name: value for name, value in ORDER.items() if name != field}
    assert refused(body) == ("MISSING_REQUIRED_FIELD", {told: "is required"})


def test_everything_missing_is_told_at_once() -> None:
    code, problems = refused({"tasks": [{"title": "x"}, {"description": "long enough"}]})
    assert code == "MISSING_REQUIRED_FIELD"
    assert set(problems) == {"repository", "tasks[0].description", "tasks[1].title"}


def test_every_problem_is_told_at_once_across_all_kinds() -> None:
    code, problems = refused(
        {
            "repository": "nonsense",
            "tasks": [{"title": "", "description": "x"}, {**TASK, "dependsOn": ["nobody", 1, 9]}],
            "maxParallel": 3,
            "strictModel": True,
            "model": "gpt-99",
            "schedule": {"cron": "0 9 * * *"},
            "startAt": "2030-01-01T00:00:00Z",
            "activate": True,
            "colour": "red",
        }
    )
    assert code == "INVALID_REQUEST"
    assert set(problems) == {
        "repository",
        "tasks[0].title",
        "tasks[0].description",
        "tasks[1].dependsOn[0]",
        "tasks[1].dependsOn[1]",
        "tasks[1].dependsOn[2]",
        "maxParallel",
        "model",
        "schedule",
        "startAt",
        "colour",
    }


@pytest.mark.parametrize(
    "body",
    [
        {**ORDER, "metadata": {"a": [1] * 20_000}},
        {**ORDER, "tasks": [{}] * 20_000},
        {f"field{number}": 1 for number in range(20_001)},
        {**ORDER, "metadata": {"a": [[1] * 200 for _ in range(100)]}},
    ],
)
def test_more_values_than_can_be_looked_at_in_no_time_are_refused_as_a_whole(body: dict[str, Any]) -> None:
    assert refused(body) == ("INVALID_REQUEST", {"body": "must not hold more than 20000 values in all"})


def test_a_missing_field_beside_wrong_ones_of_the_same_task_is_a_wrong_task() -> None:
    code, _ = refused({**ORDER, "tasks": [{"title": ""}]})
    assert code == "INVALID_TASK"


@pytest.mark.parametrize("body", [None, [], "x", 3, True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    assert refused(body) == ("INVALID_REQUEST", {"body": "must be a JSON object"})


def test_http_and_private_receivers_are_taken_where_the_operator_allows_it() -> None:
    for url in ("http://127.0.0.1:9000/hook", "https://localhost/", "http://example.com/"):
        assert read(with_field("webhookUrl", url), allow_private=True).webhook_url == url
    assert refused(with_field("webhookUrl", "http://a:b@localhost/"), allow_private=True)[0] == "INVALID_REQUEST"


@pytest.mark.parametrize("limit", [1, 50])
def test_max_parallel_goes_with_parallel(limit: int) -> None:
    assert read({**ORDER, "executionMode": "parallel", "maxParallel": limit}).max_parallel == limit


@pytest.mark.parametrize("limit", [0, 51, "3", 2.5])
def test_max_parallel_has_limits(limit: Any) -> None:
    _, problems = refused({**ORDER, "executionMode": "parallel", "maxParallel": limit})
    assert set(problems) == {"maxParallel"}


def test_a_schedule_has_six_fields_and_a_time_zone() -> None:
    schedule = read(with_field("schedule", {"cron": "0 9  * * 1-5", "timezone": "Europe/Berlin"})).schedule
    assert schedule is not None
    assert (schedule.cron, schedule.timezone) == ("0 0 9 * * 1-5", "Europe/Berlin")


def test_a_schedule_starts_its_runs_itself() -> None:
    scheduled = with_field("schedule", {"cron": "0 9 * * *"})
    assert set(refused({**scheduled, "activate": True})[1]) == {"schedule"}
    assert set(refused({**scheduled, "startAt": "2030-01-01T00:00:00Z"})[1]) == {"startAt"}


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6 *"])
def test_a_schedule_that_never_comes_due_is_refused(cron: str) -> None:
    assert set(refused(with_field("schedule", {"cron": cron}))[1]) == {"schedule.cron"}


def test_starting_at_a_time_and_at_once_contradict_each_other() -> None:
    _, problems = refused({**ORDER, "startAt": "2030-01-01T00:00:00Z", "activate": True})
    assert set(problems) == {"startAt"}


def test_fifty_tasks_are_taken() -> None:
    assert len(read({**ORDER, "tasks": [{**TASK, "title": f"t{i}"} for i in range(50)]}).tasks) == 50


def test_no_more_than_a_hundred_problems_are_named() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read({**ORDER, **{f"field{i}": i for i in range(150)}})
    assert len(caught.value.metadata["fields"]) == 100  # type: ignore[arg-type]
    assert caught.value.metadata["furtherFields"] == 50


def test_an_unknown_model_is_refused_where_the_user_insists() -> None:
    body = {**ORDER, "strictModel": True, "model": "gpt-99"}
    assert refused(body)[0] == "INVALID_MODEL"
    code, problems = refused({**ORDER, "strict_model": True, "tasks": [TASK, {**TASK, "model": "gpt-99"}]})
    assert (code, set(problems)) == ("INVALID_MODEL", {"tasks[1].model"})
    assert read({**ORDER, "strictModel": True, "model": "gpt-4"}).model == "gpt-4"
