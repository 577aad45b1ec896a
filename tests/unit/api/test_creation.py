"""What a request becomes: ids, order, dependencies and models of the command."""

from collections.abc import Collection
from typing import Any

import pytest

from services.api.creation import create_command, read_create
from services.api.problems import InvalidRequestError
from shared.domain.commands import CreateOrchestration
from shared.domain.ids import derive_id
from shared.domain.models import KNOWN_WITHOUT_PROVIDER

ID = "0b0e8c0a-2d3c-4a54-9f0e-7d1f2f6f3f11"


def task(title: str, **fields: Any) -> dict[str, Any]:
    return {"title": title, "description": "Do it as described here.", **fields}


def command(
    *tasks: dict[str, Any], known: Collection[str] = KNOWN_WITHOUT_PROVIDER, **fields: Any
) -> CreateOrchestration:
    body = {"repository": "acme/shop", "tasks": list(tasks), **fields}
    request = read_create(body, known, allow_private_webhooks=False)
    return create_command(request, known, orchestration_id=ID, team="red", created_by="me")


def problems_of(*tasks: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        command(*tasks)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_ids_of_tasks_follow_from_the_orchestration_and_their_place() -> None:
    made = command(task("a"), task("b"))
    assert [spec.task_id for spec in made.tasks] == [derive_id("task", ID, 0), derive_id("task", ID, 1)]
    assert (made.orchestration_id, made.team, made.created_by) == (ID, "red", "me")


def test_absent_fields_have_the_defaults_of_the_product() -> None:
    made = command(task("a"))
    assert made.spec.model_dump(exclude={"repository"}) == {
        "ref": "main", "name": None, "description": None, "tags": (), "metadata": {}, "model": None,
        "strict_model": False, "priority": "balanced", "auto_create_pr": True, "webhook_url": None,
        "execution_mode": "sequential", "max_parallel": None, "failure_policy": "fail_fast", "base": "ref",
        "deliverable": "any", "max_cost": None, "start_at": None, "schedule": None,
    }  # fmt: skip
    spec = made.tasks[0]
    assert (spec.priority, spec.complexity, spec.max_retries, spec.timeout_minutes) == ("medium", "moderate", 3, 120)
    assert made.activate is False


def test_dependencies_are_titles_or_indexes_and_become_ids() -> None:
    made = command(task("a"), task("b", dependsOn=["a"]), task("c", depends_on=[0, "b", " a ", 1]))
    first, second, third = (spec.task_id for spec in made.tasks)
    assert made.tasks[1].depends_on == (first,)
    assert made.tasks[2].depends_on == (first, second)
    assert third not in made.tasks[2].depends_on


def test_a_task_may_depend_on_a_later_one() -> None:
    made = command(task("a", dependsOn=["b"]), task("b"))
    assert made.tasks[0].depends_on == (made.tasks[1].task_id,)


def test_a_title_that_two_tasks_have_is_refused_but_their_indexes_are_not() -> None:
    assert (
        "2 tasks have this title"
        in problems_of(task("a"), task("a"), task("b", dependsOn=["a"]))["tasks[2].dependsOn[0]"]
    )
    made = command(task("a"), task("a"), task("b", dependsOn=[1]))
    assert made.tasks[2].depends_on == (made.tasks[1].task_id,)


def test_a_cycle_is_named_once_from_its_first_task_on() -> None:
    problems = problems_of(
        task("a", dependsOn=["c"]), task("b", dependsOn=["a"]), task("c", dependsOn=["b"]), task("d", dependsOn=["a"])
    )
    assert set(problems) == {"tasks[0].dependsOn"}
    assert problems["tasks[0].dependsOn"].endswith("a → c → b → a")


def test_two_separate_cycles_are_both_named() -> None:
    problems = problems_of(
        task("a", dependsOn=["b"]), task("b", dependsOn=["a"]), task("c", dependsOn=["d"]), task("d", dependsOn=["c"])
    )
    assert set(problems) == {"tasks[0].dependsOn", "tasks[2].dependsOn"}


def test_a_diamond_is_no_cycle() -> None:
    command(task("a"), task("b", dependsOn=[0]), task("c", dependsOn=[0]), task("d", dependsOn=[1, 2]))


def test_many_links_between_many_tasks_are_looked_through_at_once() -> None:
    tasks = [task(f"t{i}", dependsOn=list(range(i))) for i in range(50)]
    assert len(command(*tasks).tasks[49].depends_on) == 49
    tasks[0]["dependsOn"] = [49]
    assert "tasks[0].dependsOn" in problems_of(*tasks)


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        ([None, None, None], [0, 1, 2]),
        ([30, 10, 20], [30, 10, 20]),
        ([5, 5, 1], [1, 2, 0]),
        ([1, None, None], [0, 1, 2]),
    ],
)
def test_order_indexes_are_unique_and_keep_the_wish(wanted: list[int | None], indexes: list[int]) -> None:
    made = command(*(task(f"t{i}", orderIndex=index) for i, index in enumerate(wanted)))
    assert [spec.order_index for spec in made.tasks] == indexes


def test_no_model_leaves_the_choice_to_the_provider() -> None:
    made = command(task("a"))
    assert (made.spec.model, made.tasks[0].model, made.warnings) == (None, None, ())


def test_an_alias_is_mapped_without_a_word() -> None:
    made = command(task("a"), task("b", model="claude-sonnet-4"), model="gpt-4")
    assert (made.spec.model, made.tasks[0].model, made.tasks[1].model) == ("o3", None, "claude-4-sonnet-thinking")
    assert made.warnings == ()


def test_an_unknown_model_falls_back_with_one_warning() -> None:
    made = command(task("a", model="gpt-99"), task("b", model="gpt-99"), model="gpt-99")
    assert made.spec.model == made.tasks[0].model == "claude-4-sonnet-thinking"
    assert len(made.warnings) == 1
    assert "gpt-99" in made.warnings[0]


def test_by_complexity_chooses_for_each_task() -> None:
    made = command(
        task("a", complexity="simple"), task("b", complexity="complex"), task("c", model="o3"), model="by-complexity"
    )
    assert [spec.model for spec in made.tasks] == ["claude-4-sonnet-thinking", "claude-4-opus-thinking", "o3"]
    assert made.spec.model == "by-complexity"


def test_by_complexity_never_reaches_the_provider_as_a_models_name() -> None:
    made = command(task("a", complexity="complex"), model="by-complexity", known=["o3"])
    assert (made.spec.model, made.tasks[0].model) == (None, None)
    assert "by-complexity" in made.warnings[0]
