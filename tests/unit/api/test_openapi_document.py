"""The OpenAPI document says everything that a client has to know, of every operation."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from services.api.app import make_app
from services.api.openapi import document
from services.api.openapi_answers import HEADERS
from services.api.parts import Parts
from services.api.permissions import PUBLIC
from services.api.responses import OrchestrationShape, StatisticsShape, TaskShape
from services.api.routes.examples import SHAPES
from shared.domain.errors import HTTP_STATUS

DOCUMENT = document(make_app(cast(Parts, None)))


def resolved(content: dict[str, Any]) -> dict[str, Any]:
    """What it refers to, if it is a reference."""
    found: Any = DOCUMENT
    for part in content.get("$ref", "#").split("/")[1:]:
        found = found[part]
    return found if "$ref" in content else content


@dataclass(frozen=True)
class Operation:
    path: str
    method: str
    content: dict[str, Any]

    @property
    def answers(self) -> dict[str, dict[str, Any]]:
        return {status: resolved(answer) for status, answer in self.content["responses"].items()}

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


OPERATIONS = [
    Operation(path, method, content)
    for path, methods in DOCUMENT["paths"].items()
    for method, content in methods.items()
]

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)


def examples_in(answer: dict[str, Any]) -> Iterator[Any]:
    for form in answer.get("content", {}).values():
        yield from ([form["example"]] if "example" in form else [])
        yield from (resolved(example)["value"] for example in form.get("examples", {}).values())


@every_operation
def test_an_operation_has_a_name_a_summary_and_a_tag_of_the_document(operation: Operation) -> None:
    assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation.content["operationId"]), "clients make a method of it"
    assert operation.content["summary"][0].isupper()
    assert not operation.content["summary"].endswith(".")
    [tag] = operation.content["tags"]
    assert tag in {known["name"] for known in DOCUMENT["tags"]}


def test_no_two_operations_have_one_name() -> None:
    names = [operation.content["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)


@every_operation
def test_whoever_needs_a_key_is_told_every_way_in_which_it_may_be_refused(operation: Operation) -> None:
    if operation.is_public:
        assert "security" not in operation.content
        return
    assert {"401", "403", "429", "500", "503"} <= operation.answers.keys()
    shown = {example["error"]["code"] for example in examples_in(operation.answers["401"])}
    assert shown == {"UNAUTHORIZED", "INVALID_API_KEY"}
    for status, answer in operation.answers.items():
        limits = {name for name in HEADERS if name.startswith("RateLimit")}
        assert (limits <= answer["headers"].keys()) == (status != "401"), status


@every_operation
def test_headers_that_an_answer_always_has_are_told(operation: Operation) -> None:
    for status, answer in operation.answers.items():
        headers = answer["headers"].keys()
        assert "X-Request-ID" in headers, status
        assert ("Retry-After" in headers) == (status in ("429", "503")), status
        assert ("WWW-Authenticate" in headers) == (status == "401"), status
        assert ("Location" in headers) or status != "201", status


@every_operation
def test_every_error_has_the_one_shape_and_an_example_of_each_code(operation: Operation) -> None:
    for status, answer in operation.answers.items():
        if int(status) < 400 or operation.path.startswith("/health"):
            continue
        assert list(answer["content"]) == ["application/json"]
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorShape"}
        shown = [example["error"] for example in examples_in(answer)]
        assert shown
        for error in shown:
            assert error["statusCode"] == int(status)
            assert HTTP_STATUS[error["code"]] == int(status) or status == "408"
            assert error["metadata"]["requestId"]


@every_operation
def test_every_good_answer_has_a_schema_and_an_example(operation: Operation) -> None:
    good = {status: answer for status, answer in operation.answers.items() if int(status) < 400}
    assert good
    for status, answer in good.items():
        for kind, form in answer["content"].items():
            assert form.get("schema") or kind == "text/plain", (status, kind)
        assert list(examples_in(answer)), status


@every_operation
def test_a_body_has_a_schema_and_an_example_and_its_own_errors(operation: Operation) -> None:
    body = operation.content.get("requestBody")
    if body is not None:
        assert list(body["content"]) == ["application/json"]
        assert body["content"]["application/json"]["schema"]
        assert list(examples_in(body))
        assert "400" in operation.answers
    if operation.method != "get":
        assert {"408", "413"} <= operation.answers.keys()
    else:
        assert body is None


@every_operation
def test_every_parameter_says_what_it_is_for(operation: Operation) -> None:
    told = {parameter["name"]: parameter.get("description") for parameter in operation.content.get("parameters", [])}
    assert [name for name, description in told.items() if not description] == []


def test_every_field_of_a_request_says_what_it_is_for() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    requests = [name for name in schemas if name.endswith(("Request", "Patch", "Repository", "Order"))]
    assert len(requests) == 11
    told = {
        (name, field): rule.get("description")
        for name in requests
        for field, rule in schemas[name]["properties"].items()
    }
    assert [place for place, description in told.items() if not description] == []


def test_shapes_have_the_fields_that_are_shown_and_no_others() -> None:
    """What is shown and what is told come from two places."""
    detail = SHAPES["DetailShape"]
    assert set(OrchestrationShape.model_fields) == set(detail["orchestration"])
    assert set(StatisticsShape.model_fields) == set(detail["statistics"])
    assert set(TaskShape.model_fields) == set(detail["tasks"][0])
    [attempt] = detail["tasks"][0]["attempts"]
    attempts = DOCUMENT["components"]["schemas"]["AttemptShape"]["properties"]
    assert set(attempts) == set(attempt)
    assert set(DOCUMENT["components"]["schemas"]["AgentShape"]["properties"]) == set(attempt["agent"])


def test_no_schema_is_told_that_nothing_refers_to() -> None:
    text = str(DOCUMENT)
    unused = [name for name in DOCUMENT["components"]["schemas"] if f"/schemas/{name}'" not in text]
    assert unused == []
