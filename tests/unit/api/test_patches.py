"""Changes and later tasks: from a body to what a command takes, or to every problem that it has."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from services.api.patches import (
    Changes,
    NewTask,
    OrchestrationPatch,
    TaskPatch,
    read_mode,
    read_new_task,
    read_orchestration_patch,
    read_task_patch,
)
from services.api.problems import InvalidRequestError
from services.api.schemas import CreateRequest, TaskRequest
from shared.domain.commands import UpdateOrchestration
from shared.domain.events import OrchestrationSpec, TaskSpec
from shared.domain.lifecycle import changed_spec
from shared.domain.models import FALLBACK, STRONGEST
from shared.views import View, orchestration_view, task_views
from tests.support.given import given
from tests.support.orchestrations import created, make_task

KNOWN: Final = (FALLBACK, "o3", STRONGEST)


def views(*tasks: str | TaskSpec, **spec: Any) -> tuple[View, list[View]]:
    """How an orchestration of these tasks is shown."""
    state = given(created(*tasks, **spec)).state
    return orchestration_view(state), task_views(state)


def patched(body: Any, *, known: Sequence[str] = KNOWN, private: bool = False, **spec: Any) -> Changes:
    orchestration, _ = views("a", **spec)
    return read_orchestration_patch(body, orchestration, known, allow_private_webhooks=private)


def patched_task(body: Any, *tasks: str | TaskSpec, known: Sequence[str] = KNOWN, **spec: Any) -> Changes:
    """The change of the first of the tasks."""
    orchestration, shown = views(*(tasks or ("a", "b", "c")), **spec)
    return read_task_patch(body, shown[0], orchestration, shown, known)


def added(body: Any, *tasks: str | TaskSpec, known: Sequence[str] = KNOWN, **spec: Any) -> NewTask:
    orchestration, shown = views(*(tasks or ("a", "b", "c")), **spec)
    wanted = {"title": "New", "description": "Do something new.", **body} if isinstance(body, dict) else body
    return read_new_task(wanted, orchestration, shown, known, task_id="new")


def problems_of(error: pytest.ExceptionInfo[InvalidRequestError]) -> dict[str, str]:
    return {problem.field: problem.message for problem in error.value.problems}


# Every field


def test_every_field_of_a_create_can_be_changed_but_what_stands_elsewhere() -> None:
    assert set(CreateRequest.model_fields) - set(OrchestrationPatch.model_fields) == {
        *("tasks", "activate", "check_repository"),
    }
    assert set(OrchestrationPatch.model_fields) == set(OrchestrationSpec.model_fields)
    assert set(TaskPatch.model_fields) == set(TaskRequest.model_fields) == set(TaskSpec.model_fields) - {"task_id"}


def test_the_document_gives_the_rules_of_a_create_and_sets_nothing_that_is_absent() -> None:
    for patch, create in ((OrchestrationPatch, CreateRequest), (TaskPatch, TaskRequest)):
        rules, ours = create.model_json_schema()["properties"], patch.model_json_schema()["properties"]
        for name, schema in ours.items():
            assert "default" not in schema, name
            assert schema["description"] == rules[name]["description"], name
            kinds = schema.get("anyOf", [schema])
            theirs = rules[name].get("anyOf", [rules[name]])
            stripped = [_bare(kind) for kind in kinds if kind.get("type") != "null"]
            assert stripped == [_bare(kind) for kind in theirs if kind.get("type") != "null"], name
        assert "required" not in patch.model_json_schema()


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in schema.items() if name not in ("title", "default", "examples", "description")
    }


def test_what_is_absent_stays_and_null_clears() -> None:
    assert patched({}).values == {}
    cleared = ("name", "description", "tags", "metadata", "model", "webhookUrl", "maxParallel", "maxCost", "startAt")
    values = patched(dict.fromkeys(cleared)).values
    assert len(values) == len(cleared)
    assert set(values.values()) == {None}
    assert patched_task({"model": None, "dependsOn": None, "metadata": None}).values == {
        "model": None,
        "depends_on": [],
        "metadata": None,
    }


def test_a_spec_takes_what_a_patch_gives() -> None:
    """The values go through JSON on their way to the decision."""
    body = {
        "startAt": "2190-01-31T10:00:00+01:00",
        "tags": ["x"],
        "metadata": {"deep": [None, {"a": 1.5}]},
        "maxCost": 2,
        "name": None,
    }
    spec = OrchestrationSpec(repository="https://github.com/acme/shop", name="A")
    command = UpdateOrchestration(changes=patched(body).values)
    sent = UpdateOrchestration.model_validate_json(command.model_dump_json(exclude_none=True))
    changed = changed_spec(spec, sent.changes)
    assert changed.start_at is not None
    assert changed.start_at.isoformat() == "2190-01-31T09:00:00+00:00"
    assert (changed.tags, changed.metadata, changed.max_cost, changed.name) == (("x",), body["metadata"], 2.0, None)


@pytest.mark.parametrize("name", ["name", "description"])
def test_an_empty_text_says_that_there_is_none(name: str) -> None:
    assert patched({name: "  "}).values == {name: None}


def test_both_spellings_are_taken_but_not_at_once() -> None:
    assert patched({"auto_create_pr": False}) == patched({"autoCreatePr": False})
    assert patched_task({"max_retries": 1}) == patched_task({"maxRetries": 1})
    with pytest.raises(InvalidRequestError) as error:
        patched({"auto_create_pr": False, "autoCreatePr": False})
    assert "given twice" in problems_of(error)["auto_create_pr"]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    body = {"ref": "", "tags": [1], "maxParallel": 2, "model": "nonsense", "strictModel": True, "id": "x", "oops": 1}
    with pytest.raises(InvalidRequestError) as error:
        patched(body)
    assert set(problems_of(error)) == {"ref", "tags[0]", "maxParallel", "model", "id", "oops"}
    assert error.value.code == "INVALID_REQUEST"


@pytest.mark.parametrize("body", [None, [], "x", 3, True])
def test_a_body_that_is_no_object_is_named_as_a_whole(body: Any) -> None:
    for read in (patched, patched_task, added, read_mode):
        with pytest.raises(InvalidRequestError) as error:
            read(body)
        assert problems_of(error) == {"body": "must be a JSON object"}


def test_what_is_changed_elsewhere_says_where() -> None:
    with pytest.raises(InvalidRequestError) as error:
        patched({"tasks": [], "activate": True, "checkRepository": True})
    assert "/api/tasks/" in problems_of(error)["tasks"]
    assert "/activate" in problems_of(error)["activate"]
    assert "creates" in problems_of(error)["checkRepository"]


def test_a_private_webhook_is_taken_where_the_operator_allows_it() -> None:
    assert patched({"webhookUrl": "http://10.0.0.1/"}, private=True).values == {"webhook_url": "http://10.0.0.1/"}
    with pytest.raises(InvalidRequestError):
        patched({"webhookUrl": "http://10.0.0.1/"})


def test_how_many_may_run_at_once_needs_parallel_execution_given_or_standing() -> None:
    parallel: dict[str, Any] = {"execution_mode": "parallel", "max_parallel": 3}
    assert patched({"maxParallel": 2}, **parallel).values == {"max_parallel": 2}
    assert patched({"maxParallel": 2, "executionMode": "parallel"}).values["max_parallel"] == 2
    assert patched({"max_parallel": None, "execution_mode": "sequential"}, **parallel).values["max_parallel"] is None
    refused: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"max_parallel": 2}, {}, "max_parallel"),
        ({"maxParallel": 2, "executionMode": "sequential"}, parallel, "maxParallel"),
        ({"executionMode": "sequential"}, parallel, "max_parallel"),
    ]
    for body, spec, field in refused:
        with pytest.raises(InvalidRequestError) as error:
            patched(body, **spec)
        assert set(problems_of(error)) == {field}


# Models


def test_a_model_is_mapped_falls_back_with_a_warning_or_is_refused() -> None:
    assert patched({"model": "gpt-4"}).values == {"model": "o3"}
    fallen = patched({"model": " gpt-99 "})
    assert fallen.values == {"model": FALLBACK}
    assert "gpt-99" in fallen.warnings[0]
    for body, spec in (({"model": "gpt-99", "strictModel": True}, False), ({"model": "gpt-99"}, True)):
        with pytest.raises(InvalidRequestError) as error:
            patched(body, strict_model=spec)
        assert error.value.code == "INVALID_MODEL"
    assert patched({"model": "gpt-99", "strict_model": False}, strict_model=True).values["model"] == FALLBACK


def test_models_of_tasks_follow_the_same_rules() -> None:
    assert added({"model": "gpt-4"}).spec.model == "o3"
    assert added({}).spec.model is None
    assert added({"model": "gpt-99"}).warnings == patched_task({"model": "gpt-99"}).warnings != ()
    assert patched_task({"model": "by-complexity"}, make_task("a", complexity="complex")).values == {"model": STRONGEST}
    for read in (added, patched_task):
        with pytest.raises(InvalidRequestError) as error:
            read({"model": "gpt-99"}, strict_model=True)
        assert error.value.code == "INVALID_MODEL"


def test_where_models_go_by_complexity_a_task_without_one_gets_it_so() -> None:
    assert added({"complexity": "complex"}, model="by-complexity").spec.model == STRONGEST
    assert added({}, model="by-complexity").spec.model == FALLBACK
    chosen, named = make_task("a", model=FALLBACK), make_task("a", model="o3")
    assert patched_task({"complexity": "complex"}, chosen, model="by-complexity").values["model"] == STRONGEST
    assert "model" not in patched_task({"complexity": "complex"}, named, model="by-complexity").values
    assert "model" not in patched_task({"complexity": "complex"}, chosen).values
    assert patched_task({"model": None}, named, model="by-complexity").values == {"model": FALLBACK}


def test_nothing_is_left_to_chance_where_the_provider_lacks_the_models_of_by_complexity() -> None:
    for read in (added, patched_task):
        with pytest.raises(InvalidRequestError) as error:
            read({"model": "by-complexity"}, known=["other"])
        assert error.value.code == "INVALID_MODEL"


def test_by_complexity_is_for_a_create_unless_it_stands_already() -> None:
    assert patched({"model": "by-complexity"}, model="by-complexity").values == {"model": "by-complexity"}
    with pytest.raises(InvalidRequestError) as error:
        patched({"model": "by-complexity"})
    assert error.value.code == "INVALID_MODEL"


# Dependencies


def test_tasks_are_named_by_title_index_or_id() -> None:
    assert added({"dependsOn": ["Task a", 1, "c", "a", " Task b "]}).spec.depends_on == ("a", "b", "c")
    assert patched_task({"depends_on": [2, "Task b"]}).values == {"depends_on": ["c", "b"]}


def test_a_name_that_fits_no_task_several_tasks_or_the_task_itself_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as error:
        added({"dependsOn": ["Nobody", 3, -1, True, None, 1.0, {}]})
    assert set(problems_of(error)) == {f"dependsOn[{place}]" for place in range(7)}
    assert error.value.code == "INVALID_TASK"
    twins = (make_task("a"), make_task("b", title="Twin"), make_task("c", title="Twin"))
    with pytest.raises(InvalidRequestError) as error:
        added({"dependsOn": ["Twin"]}, *twins)
    assert "2 tasks have this title" in problems_of(error)["dependsOn[0]"]
    assert added({"dependsOn": ["c"]}, *twins).spec.depends_on == ("c",)
    for own in ("Task a", 0, "a"):
        with pytest.raises(InvalidRequestError) as error:
            patched_task({"dependsOn": [own]})
        assert problems_of(error) == {"dependsOn[0]": "a task cannot depend on itself"}


def test_a_cycle_is_told_with_its_tasks() -> None:
    tasks = ("a", make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",)))
    with pytest.raises(InvalidRequestError) as error:
        patched_task({"depends_on": ["c"]}, *tasks)
    assert "Task a → Task c → Task b → Task a" in problems_of(error)["depends_on"]


# New tasks and pauses


def test_a_new_task_comes_last_unless_it_was_given_a_place() -> None:
    assert added({}).at_end
    placed = added({"order_index": 0})
    assert (placed.at_end, placed.spec.order_index, placed.spec.task_id) == (False, 0, "new")


def test_a_task_that_lacks_fields_says_so_and_one_that_is_wrong_besides_is_wrong() -> None:
    orchestration, tasks = views("a")
    for body, code in (
        ({}, "MISSING_REQUIRED_FIELD"),
        ({"title": 1}, "INVALID_TASK"),
        ({"title": "x", "description": "long enough it is", "model": "no", "retryCount": 1}, "INVALID_TASK"),
    ):
        with pytest.raises(InvalidRequestError) as error:
            read_new_task(body, orchestration, tasks, KNOWN, task_id="new")
        assert error.value.code == code


def test_how_to_pause() -> None:
    assert (read_mode({}), read_mode({"mode": "drain"})) == ("stop", "drain")
    with pytest.raises(InvalidRequestError):
        read_mode({"mode": "Drain"})
