"""What a bulk request is to do: what is shared, what each repository has of its own, what is refused."""

from typing import Any

import pytest

from services.api.bulk import BulkPlan, command_for, plan_bulk
from services.api.creation import create_command, read_create
from services.api.idempotency import RequestIds
from services.api.problems import InvalidRequestError
from shared.domain.models import KNOWN_WITHOUT_PROVIDER

TASKS: list[dict[str, Any]] = [
    {"title": "One", "description": "Change one line of it.", "orderIndex": 7},
    {"title": "Two", "description": "Change another line of it.", "dependsOn": ["One"], "priority": "high"},
]


def plan(*repositories: Any, seed: str = "seed", **fields: Any) -> BulkPlan:
    body = {"repositories": list(repositories), "tasks": TASKS, **fields}
    return plan_bulk(
        body, KNOWN_WITHOUT_PROVIDER, RequestIds(seed), team="red", created_by="me", allow_private_webhooks=False
    )


def problem_of(*repositories: Any) -> tuple[Any, Any]:
    """The code and the first field of the last repository's error."""
    error = plan(*repositories).items[-1].error
    metadata: Any = error["metadata"]
    return error["code"], metadata["fields"][0]["field"]


def test_each_gets_what_a_single_create_would_give_it() -> None:
    fields: dict[str, Any] = {"name": "All", "model": "by-complexity", "maxCost": 3.5, "tags": ["a"], "activate": True}
    made = plan("acme/shop", {"repository": "acme/blog", "ref": "next", "name": "Own"}, **fields)
    for item, own in zip(
        made.items,
        ({"repository": "acme/shop"}, {"repository": "acme/blog", "ref": "next", "name": "Own"}),
        strict=True,
    ):
        assert item.target is not None
        body = {**fields, **own, "tasks": TASKS}
        single = create_command(
            read_create(body, KNOWN_WITHOUT_PROVIDER, allow_private_webhooks=False),
            KNOWN_WITHOUT_PROVIDER,
            orchestration_id=item.target.orchestration_id,
            team="red",
            created_by="me",
        )
        assert command_for(made, item.target) == single


def test_a_plan_is_the_same_after_it_was_stored_and_when_it_is_made_again() -> None:
    made = plan("acme/shop", "nonsense", startAt="2030-01-01T00:00:00Z", metadata={"k": [1, None, 0.5]})
    assert BulkPlan.model_validate_json(made.model_dump_json()) == made
    assert plan("acme/shop", "nonsense", startAt="2030-01-01T00:00:00Z", metadata={"k": [1, None, 0.5]}) == made
    other = plan("acme/shop", seed="other").items[0].target
    assert other is not None
    assert made.items[0].target is not None
    assert other.orchestration_id != made.items[0].target.orchestration_id


def test_ids_are_different_for_each() -> None:
    made = plan(*(f"acme/r{number}" for number in range(100)))
    targets = [item.target for item in made.items if item.target]
    ids = [id for target in targets for id in (target.orchestration_id, target.command_id)]
    assert len(set(ids)) == 200


@pytest.mark.parametrize(
    ("repository", "code", "field"),
    [
        ("nonsense", "INVALID_REPOSITORY", "repositories[1]"),
        ("", "INVALID_REPOSITORY", "repositories[1]"),
        ("a/b\0", "INVALID_REPOSITORY", "repositories[1]"),
        (None, "INVALID_REPOSITORY", "repositories[1]"),
        (["a/b"], "INVALID_REPOSITORY", "repositories[1]"),
        ({}, "MISSING_REQUIRED_FIELD", "repositories[1].repository"),
        ({"repository": 3}, "INVALID_REPOSITORY", "repositories[1].repository"),
        ({"repository": "a/b", "ref": ".."}, "INVALID_REQUEST", "repositories[1].ref"),
        ({"repository": "a/b", "name": "x" * 201}, "INVALID_REQUEST", "repositories[1].name"),
        ({"repository": "a/b", "tasks": []}, "INVALID_REQUEST", "repositories[1].tasks"),
        ("acme/shop", "INVALID_REPOSITORY", "repositories[1]"),
        ("https://github.com/ACME/shop.git", "INVALID_REPOSITORY", "repositories[1]"),
        ({"repository": "acme/shop", "ref": "main"}, "INVALID_REPOSITORY", "repositories[1]"),
    ],
)
def test_a_repository_that_is_wrong_is_refused_by_itself(repository: Any, code: str, field: str) -> None:
    assert problem_of("acme/shop", repository) == (code, field)
    assert plan("acme/shop", repository).items[0].target is not None


def test_the_same_repository_with_another_ref_is_another_one() -> None:
    made = plan("acme/shop", {"repository": "acme/shop", "ref": "next"})
    assert all(item.target for item in made.items)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"repositories": []}, "repositories"),
        ({"repositories": ["a/b"] * 101}, "repositories"),
        ({"repositories": "acme/shop"}, "repositories"),
        ({"tasks": [{"title": "One"}]}, "tasks[0].description"),
        ({"tasks": [{**TASKS[1], "dependsOn": ["nobody"]}]}, "tasks[0].dependsOn[0]"),
        ({"tasks": []}, "tasks"),
        ({"repository": "acme/shop"}, "repository"),
        ({"model": "gpt-99", "strictModel": True}, "model"),
        ({"max_parallel": 3}, "max_parallel"),
        ({"description": "\0"}, "description"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_for_all_refuses_the_whole(change: dict[str, Any], field: str) -> None:
    body = {"repositories": ["acme/shop"], "tasks": TASKS, **change}
    with pytest.raises(InvalidRequestError) as caught:
        plan_bulk(
            body, KNOWN_WITHOUT_PROVIDER, RequestIds("s"), team="red", created_by="me", allow_private_webhooks=False
        )
    assert field in [problem.field for problem in caught.value.problems]
